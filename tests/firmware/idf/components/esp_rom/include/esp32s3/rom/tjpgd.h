// SPDX-License-Identifier: MIT
// Of ESP-IDF's header of this name: what mpy_module/jpeg.c uses. The decoder is in the chip's ROM.

#ifndef FAKE_TJPGD_H
#define FAKE_TJPGD_H

typedef unsigned int UINT;
typedef short SHORT;
typedef unsigned char BYTE;
typedef unsigned short WORD;
typedef long LONG;

typedef enum {
    JDR_OK = 0,
    JDR_INTR,
    JDR_INP,
    JDR_MEM1,
    JDR_MEM2,
    JDR_PAR,
    JDR_FMT1,
    JDR_FMT2,
    JDR_FMT3
} JRESULT;

typedef struct {
    WORD left, right, top, bottom;
} JRECT;

typedef struct JDEC JDEC;
struct JDEC {
    UINT dctr;
    BYTE *dptr;
    BYTE *inbuf;
    BYTE dmsk;
    BYTE scale;
    BYTE msx, msy;
    BYTE qtid[3];
    SHORT dcv[3];
    WORD nrst;
    UINT width, height;
    BYTE *huffbits[2][2];
    WORD *huffcode[2][2];
    BYTE *huffdata[2][2];
    LONG *qttbl[4];
    void *workbuf;
    BYTE *mcubuf;
    void *pool;
    UINT sz_pool;
    UINT (*infunc)(JDEC *, BYTE *, UINT);
    void *device;
};

JRESULT jd_prepare(JDEC *, UINT (*)(JDEC *, BYTE *, UINT), void *, UINT, void *);
JRESULT jd_decomp(JDEC *, UINT (*)(JDEC *, void *, JRECT *), BYTE);

#endif
