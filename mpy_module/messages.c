// SPDX-License-Identifier: MIT
// Error messages, without printf: not every port's can print 64 bits.
#include <stdbool.h>

#include "ternary.h"

typedef struct {
    char *text;
    size_t size, length;
} writer;

static void put(writer *w, char c) {
    if (w->length + 1 < w->size) {
        w->text[w->length++] = c;
    }
}

static void put_text(writer *w, const char *text) {
    while (*text) {
        put(w, *text++);
    }
}

static void put_number(writer *w, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    while (count) {
        put(w, digits[--count]);
    }
}

static void put_int(writer *w, int32_t number) {
    if (number < 0) {
        put(w, '-');
    }
    put_number(w, (uint64_t)(number < 0 ? -(int64_t)number : number));
}

static void put_range(writer *w, const ternary_error *error) {
    put_text(w, ", needs ");
    put_int(w, error->low);
    put_text(w, "..");
    put_int(w, error->high);
}

static const char *finish(writer *w) {
    w->text[w->length] = 0;
    return w->text;
}

static void put_signature(writer *w, const ternary_operation *operation) {
    put_text(w, operation->name);
    for (size_t i = 0; i < operation->parameter_count; i++) {
        put_text(w, i ? ", " : "(");
        put_text(w, operation->parameters[i].name);
    }
    put(w, ')');
}

const char *ternary_signature(const ternary_operation *operation, char *text, size_t size) {
    writer w = {.text = text, .size = size};
    put_signature(&w, operation);
    return finish(&w);
}

// "is 5" or "has 20 bytes"
static void put_found(writer *w, const ternary_parameter *parameter, const ternary_arg *argument) {
    if (parameter->type == TERNARY_INT) {
        put_text(w, " is ");
        put_int(w, argument->value);
    } else {
        put_text(w, " has ");
        put_number(w, argument->size);
        put_text(w, " bytes");
    }
}

static void put_needed(writer *w, const char *text, uint64_t needed) {
    put_text(w, text);
    put_number(w, needed);
}

static void put_fault(writer *w, const ternary_operation *operation, const ternary_arg *arguments,
                      const ternary_error *error) {
    static const char *const types[] = {
        [TERNARY_INT] = "an int",
        [TERNARY_I8] = "a buffer of int8",
        [TERNARY_U8] = "a buffer of uint8",
        [TERNARY_I16] = "a buffer of int16",
        [TERNARY_I32] = "a buffer of int32",
        [TERNARY_STR] = "a str",
    };
    const ternary_parameter *parameter = operation->parameters + (error->argument - arguments);
    put_text(w, operation->name);
    put_text(w, ": ");
    put_text(w, parameter->name);
    switch (error->code) {
    case TERNARY_ERR_EMPTY:
        put_text(w, " is empty");
        break;
    case TERNARY_ERR_SIZE:
        put_found(w, parameter, error->argument);
        put_needed(w, ", needs ", error->needed);
        break;
    case TERNARY_ERR_SHORT:
        put_found(w, parameter, error->argument);
        put_needed(w, ", needs at least ", error->needed);
        break;
    case TERNARY_ERR_MULTIPLE:
        put_found(w, parameter, error->argument);
        put_needed(w, ", needs a multiple of ", error->needed);
        break;
    case TERNARY_ERR_ALIGN:
        put_needed(w, " must be aligned to ", error->needed);
        put_text(w, " bytes");
        break;
    case TERNARY_ERR_OVERLAP:
        put_text(w, " overlaps ");
        put_text(w, operation->parameters[error->other - arguments].name);
        break;
    case TERNARY_ERR_VALUE:
        put_found(w, parameter, error->argument);
        put_range(w, error);
        break;
    case TERNARY_ERR_CONTENT:
        put_text(w, " holds ");
        put_int(w, error->value);
        put_needed(w, " at index ", error->index);
        put_range(w, error);
        break;
    case TERNARY_ERR_SUM:
        put_text(w, " sum to ");
        put_int(w, error->value);
        put_needed(w, " in row ", error->index);
        put_range(w, error);
        break;
    case TERNARY_ERR_CHANNELS:
        put_found(w, parameter, error->argument);
        put_text(w, ", needs 1 or 3");
        break;
    case TERNARY_ERR_RANGE:
        put_text(w, " does not fit 32 bits");
        break;
    case TERNARY_ERR_TYPECODE:
        put_text(w, " must be one of b, B, h, i");
        break;
    case TERNARY_ERR_TYPE:
        put_text(w, " must be ");
        put_text(w, types[parameter->type]);
        break;
    case TERNARY_ERR_READONLY:
        put_text(w, " must be writable");
        break;
    default:
        put_text(w, " is wrong");
        break;
    }
}

const char *ternary_error_message(const ternary_operation *operation, const ternary_arg *arguments,
                                  const ternary_error *error, char *text, size_t size) {
    writer w = {.text = text, .size = size};
    if (error->code == TERNARY_ERR_COUNT) {
        put_signature(&w, operation);
        put_needed(&w, " takes ", operation->parameter_count);
        put_text(&w, operation->parameter_count == 1 ? " argument, got " : " arguments, got ");
        put_int(&w, error->value);
    } else if (error->code == TERNARY_ERR_MEMORY) {
        put_text(&w, operation->name);
        put_text(&w, ": no room for ");
        put_int(&w, error->argument->value);
        put_text(&w, " bytes");
        if (error->value) {
            put_text(&w, " with ");
            put_int(&w, error->value);
            put_text(&w, " left in one block");
        }
        if (error->needed) {
            put_needed(&w, ", the largest free block has ", error->needed);
        }
    } else {
        put_fault(&w, operation, arguments, error);
    }
    return finish(&w);
}
