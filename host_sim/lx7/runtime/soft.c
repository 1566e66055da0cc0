// SPDX-License-Identifier: MIT
// Arithmetic functions of clang's compiler runtime. Results are rounded as in IEEE 754 (to nearest, ties to
// even); every NaN result is the same. GCC's library divides floats with the FPU's div0.s sequence, which is
// faster.
#include <stdbool.h>
#include <stdint.h>

enum { FRACTION_BITS = 23, BIAS = 127, MAX_EXPONENT = 255 };

static const uint32_t SIGN = 0x80000000u, INFINITE = 0x7f800000u, NAN_BITS = 0x7fc00000u,
                      HIDDEN = 0x00800000u;

// Number of leading zeros; 32 for 0.
static uint32_t leading_zeros(uint32_t value) {
    uint32_t count;
    __asm__("nsau %0, %1" : "=r"(count) : "r"(value));
    return count;
}

static uint32_t leading_zeros64(uint64_t value) {
    uint32_t high = (uint32_t)(value >> 32);
    return high ? leading_zeros(high) : 32 + leading_zeros((uint32_t)value);
}

// One digit of 16 bits: *rest / divisor, for *rest < divisor * 2^16 and divisor >= 2^31; *rest becomes the
// remainder.
static uint32_t digit(uint64_t *rest, uint32_t divisor) {
    uint32_t estimate = (uint32_t)(*rest >> 16) / (divisor >> 16);
    uint64_t product = (uint64_t)estimate * divisor;
    // The estimate from the divisor's upper half is at most 2 too high.
    while (product > *rest) {
        product -= divisor;
        estimate--;
    }
    *rest -= product;
    return estimate;
}

// value / divisor, for value < divisor * 2^32.
static uint32_t divide_64_by_32(uint64_t value, uint32_t divisor, uint32_t *remainder) {
    uint32_t shift = leading_zeros(divisor);
    divisor <<= shift;
    value <<= shift;
    uint64_t rest = value >> 16;
    uint32_t high = digit(&rest, divisor);
    rest = rest << 16 | (value & 0xffff);
    uint32_t low = digit(&rest, divisor);
    *remainder = (uint32_t)rest >> shift;
    return (high << 16) + low;
}

static uint64_t divide(uint64_t value, uint64_t divisor, uint64_t *remainder) {
    uint32_t rest;
    if (divisor >> 32) {
        // The divisor's upper 32 significant bits give the quotient, or 1 more.
        uint32_t shift = 32 - leading_zeros64(divisor);
        uint64_t quotient = divide_64_by_32(value >> 1, (uint32_t)(divisor >> shift), &rest) >> (shift - 1);
        quotient -= quotient != 0;
        *remainder = value - quotient * divisor;
        if (*remainder >= divisor) {
            *remainder -= divisor;
            quotient++;
        }
        return quotient;
    }
    uint32_t small = (uint32_t)divisor, high = (uint32_t)(value >> 32);
    uint32_t upper = high / small; // traps on 0, as a 32-bit division does
    uint64_t lower = (uint64_t)(high % small) << 32 | (uint32_t)value;
    uint32_t quotient = divide_64_by_32(lower, small, &rest);
    *remainder = rest;
    return (uint64_t)upper << 32 | quotient;
}

static uint64_t magnitude(int64_t value) {
    return value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
}

uint64_t __udivdi3(uint64_t value, uint64_t divisor) {
    uint64_t remainder;
    return divide(value, divisor, &remainder);
}

uint64_t __umoddi3(uint64_t value, uint64_t divisor) {
    uint64_t remainder;
    divide(value, divisor, &remainder);
    return remainder;
}

int64_t __divdi3(int64_t value, int64_t divisor) {
    uint64_t remainder, quotient = divide(magnitude(value), magnitude(divisor), &remainder);
    return (int64_t)((value < 0) != (divisor < 0) ? 0 - quotient : quotient);
}

int64_t __moddi3(int64_t value, int64_t divisor) {
    uint64_t remainder;
    divide(magnitude(value), magnitude(divisor), &remainder);
    return (int64_t)(value < 0 ? 0 - remainder : remainder);
}

// clang calls it for cores without muluh, as QEMU's are.
int64_t __muldi3(int64_t a, int64_t b) {
    uint32_t a_low = (uint32_t)a, b_low = (uint32_t)b;
    uint32_t a0 = a_low & 0xffff, a1 = a_low >> 16, b0 = b_low & 0xffff, b1 = b_low >> 16;
    uint32_t low = a0 * b0, middle = a0 * b1 + (low >> 16), cross = a1 * b0 + (middle & 0xffff);
    uint32_t high = a1 * b1 + (middle >> 16) + (cross >> 16);
    high += (uint32_t)((uint64_t)a >> 32) * b_low + a_low * (uint32_t)((uint64_t)b >> 32);
    return (int64_t)((uint64_t)high << 32 | cross << 16 | (low & 0xffff));
}

typedef union {
    float value;
    uint32_t bits;
} float_bits;

static uint32_t bits_of(float value) {
    return (float_bits){.value = value}.bits;
}

static float float_of(uint32_t bits) {
    return (float_bits){.bits = bits}.value;
}

// A float's fraction with its leading 1 at bit 23, also for subnormals; `exponent`: biased, of the leading 1.
static uint32_t normalized(uint32_t bits, int32_t *exponent) {
    uint32_t fraction = bits & (HIDDEN - 1);
    *exponent = (int32_t)(bits >> FRACTION_BITS & MAX_EXPONENT);
    if (*exponent) {
        return fraction | HIDDEN;
    }
    uint32_t shift = leading_zeros(fraction) - 8;
    *exponent = 1 - (int32_t)shift;
    return fraction << shift;
}

// The float nearest to value * 2^(exponent - BIAS - 30), for a value of 31 significant bits whose lowest bit
// is sticky.
static uint32_t rounded(uint32_t sign, int32_t exponent, uint32_t value) {
    uint32_t cut = 7;
    if (exponent >= MAX_EXPONENT) {
        return sign | INFINITE;
    } else if (exponent < -FRACTION_BITS) {
        return sign; // below half the smallest subnormal
    } else if (exponent <= 0) {
        cut += (uint32_t)(1 - exponent);
        exponent = 0;
    } else {
        value -= 1u << 30;
    }
    uint32_t kept = value >> cut, rest = value & ((1u << cut) - 1), half = 1u << (cut - 1);
    kept += rest > half || (rest == half && (kept & 1));
    // A carry out of the fraction increments the exponent, up to infinity.
    return sign | (((uint32_t)exponent << FRACTION_BITS) + kept);
}

float __divsf3(float a, float b) {
    uint32_t x = bits_of(a), y = bits_of(b), sign = (x ^ y) & SIGN;
    x &= ~SIGN;
    y &= ~SIGN;
    if (x > INFINITE || y > INFINITE || (x == y && (x == 0 || x == INFINITE))) {
        return float_of(NAN_BITS);
    }
    if (x == INFINITE || y == 0) {
        return float_of(sign | INFINITE);
    }
    if (x == 0 || y == INFINITE) {
        return float_of(sign);
    }
    int32_t x_exponent, y_exponent;
    uint32_t dividend = normalized(x, &x_exponent), divisor = normalized(y, &y_exponent), rest;
    int32_t exponent = x_exponent - y_exponent + BIAS;
    bool below_one = dividend < divisor;
    uint32_t quotient = divide_64_by_32((uint64_t)dividend << (30 + below_one), divisor, &rest);
    return float_of(rounded(sign, exponent - below_one, quotient | (rest != 0)));
}

float sqrtf(float a) {
    uint32_t x = bits_of(a);
    if (x == 0 || x == SIGN || x == INFINITE) {
        return a;
    }
    if (x > INFINITE) {
        return float_of(NAN_BITS);
    }
    int32_t exponent;
    uint64_t rest = normalized(x, &exponent);
    exponent -= BIAS;
    // With 61 significant bits, or 62 to make the exponent even, the root has 31.
    rest <<= exponent & 1 ? 38 : 37;
    uint64_t root = 0;
    for (uint64_t bit = 1ull << 60; bit; bit >>= 2) {
        if (rest >= root + bit) {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return float_of(rounded(0, (exponent >> 1) + BIAS, (uint32_t)root | (rest != 0)));
}

static float from_integer(uint32_t sign, uint64_t value) {
    if (value == 0) {
        return 0;
    }
    int32_t top = 63 - (int32_t)leading_zeros64(value);
    uint32_t lost = 0;
    if (top > 30) {
        lost = (value & ((1ull << (top - 30)) - 1)) != 0;
        value >>= top - 30;
    } else {
        value <<= 30 - top;
    }
    return float_of(rounded(sign, top + BIAS, (uint32_t)value | lost));
}

float __floatundisf(uint64_t value) {
    return from_integer(0, value);
}

float __floatdisf(int64_t value) {
    return from_integer(value < 0 ? SIGN : 0, magnitude(value));
}

// Rounds towards 0. Out of range, the nearest integer in range; NaN gives the largest, as trunc.s does.
static uint64_t to_integer(uint32_t bits, uint64_t largest) {
    int32_t exponent;
    if (bits >> FRACTION_BITS < BIAS) {
        return 0;
    }
    uint64_t value = normalized(bits, &exponent);
    int32_t shift = exponent - BIAS - FRACTION_BITS;
    if (shift > 40) {
        return largest;
    }
    value = shift < 0 ? value >> -shift : value << shift;
    return value > largest ? largest : value;
}

int64_t __fixsfdi(float a) {
    uint32_t bits = bits_of(a);
    if (bits & SIGN && (bits & ~SIGN) <= INFINITE) {
        return (int64_t)(0 - to_integer(bits & ~SIGN, 1ull << 63));
    }
    return (int64_t)to_integer(bits & ~SIGN, INT64_MAX);
}

uint64_t __fixunssfdi(float a) {
    uint32_t bits = bits_of(a);
    return bits & SIGN && (bits & ~SIGN) <= INFINITE ? 0 : to_integer(bits & ~SIGN, UINT64_MAX);
}
