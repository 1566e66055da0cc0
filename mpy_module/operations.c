// SPDX-License-Identifier: MIT
#include "operations.h"
#include "checks.h"
#include "parallel.h"

#define PARAMETER(parameter, parameter_type, parameter_use)                                                  \
    {.name = #parameter, .type = TERNARY_##parameter_type, .use = TERNARY_##parameter_use},
#define PARAMETERS(name, has_result, doc, parameters)                                                        \
    static const ternary_parameter name##_parameters[] = {parameters};
TERNARY_OPERATIONS(PARAMETERS, PARAMETER)

// Argument structs are accessed as arrays of ternary_arg.
#define NOTHING(name, type, use)
#define COUNT(name) (sizeof(name##_parameters) / sizeof(ternary_parameter))
#define SAME_LAYOUT(name, has_result, doc, parameters)                                                       \
    typedef char name##_is_an_array[sizeof(ternary_##name##_arguments) == COUNT(name) * sizeof(ternary_arg)  \
                                        ? 1                                                                  \
                                        : -1];
TERNARY_OPERATIONS(SAME_LAYOUT, NOTHING)

#define ENTRY(operation, returns, text, parameter_list)                                                      \
    {                                                                                                        \
        .name = #operation,                                                                                  \
        .doc = text,                                                                                         \
        .call = ternary_##operation,                                                                         \
        .parameters = operation##_parameters,                                                                \
        .parameter_count = COUNT(operation),                                                                 \
        .has_result = returns,                                                                               \
    },
const ternary_operation ternary_operations[] = {TERNARY_OPERATIONS(ENTRY, NOTHING){.name = NULL}};

static size_t item_size(int32_t type) {
    return type == TERNARY_I16 ? 2 : type == TERNARY_I32 ? 4 : 1;
}

int32_t ternary_accepts(int32_t type, int32_t typecode, size_t size) {
    if (type == TERNARY_INT || type == TERNARY_STR) {
        return 0;
    }
    if (typecode == 'b' || typecode == 'B') {
        return 1;
    }
    if (type == TERNARY_I32) {
        return (typecode == 'i' || typecode == 'l') && size == 4;
    }
    return type == TERNARY_I16 && typecode == 'h' && size == 2;
}

static bool whole_elements(const ternary_arg *argument, int32_t type, ternary_error *error) {
    size_t unit = item_size(type);
    if (argument->size == 0) {
        return ternary_fail(error, TERNARY_ERR_EMPTY, argument);
    }
    // Units are powers of two; masks avoid slow divisions.
    if ((uintptr_t)argument->data & (unit - 1)) {
        error->needed = unit;
        return ternary_fail(error, TERNARY_ERR_ALIGN, argument);
    }
    return (argument->size & (unit - 1)) == 0 || ternary_size_multiple(argument, unit, error);
}

static bool overlap(const ternary_arg *a, const ternary_arg *b) {
    uintptr_t x = (uintptr_t)a->data, y = (uintptr_t)b->data;
    return x < y ? y - x < a->size : x - y < b->size;
}

static bool apart(const ternary_operation *operation, const ternary_arg *arguments, size_t index,
                  ternary_error *error) {
    const ternary_arg *written = arguments + index;
    for (size_t i = 0; i < operation->parameter_count; i++) {
        const ternary_arg *other = arguments + i;
        if (i == index || operation->parameters[i].type == TERNARY_INT || !overlap(written, other)) {
            continue;
        }
        bool same = other->data == written->data && other->size == written->size;
        if (i != 0 || !same || operation->parameters[index].use != TERNARY_IN_PLACE) {
            error->other = other;
            return ternary_fail(error, TERNARY_ERR_OVERLAP, written);
        }
    }
    return true;
}

int32_t ternary_call(const ternary_operation *operation, const ternary_arg *arguments, ternary_error *error) {
    const ternary_parameter *parameters = operation->parameters;
    for (size_t i = 0; i < operation->parameter_count; i++) {
        if (parameters[i].type != TERNARY_INT && !whole_elements(arguments + i, parameters[i].type, error)) {
            return error->code;
        }
    }
    for (size_t i = 0; i < operation->parameter_count; i++) {
        if (parameters[i].use != TERNARY_IN && !apart(operation, arguments, i, error)) {
            return error->code;
        }
    }
    const ternary_settings settings = {.backend = ternary_backend_in_use(), .cores = ternary_cores()};
    return operation->call(&settings, arguments, error);
}

static int32_t check_memory(const ternary_settings *settings, const ternary_arg *arguments,
                            ternary_error *error) {
    (void)settings;
    const ternary_arg *bytes = arguments, *typecode = arguments + 1, *leave = arguments + 2;
    int32_t code = typecode->value;
    int32_t unit = code == 'b' || code == 'B' ? 1 : code == 'h' ? 2 : code == 'i' ? 4 : 0;
    if (unit == 0) {
        ternary_fail(error, TERNARY_ERR_TYPECODE, typecode);
        return error->code;
    }
    bool ok = ternary_value_in(bytes, 1, INT32_MAX, error) && ternary_value_multiple(bytes, unit, error) &&
              ternary_value_in(leave, 0, INT32_MAX, error);
    return ok ? unit : error->code;
}

static const ternary_parameter memory_parameters[] = {PARAMETER(bytes, INT, IN) PARAMETER(typecode, INT, IN)
                                                          PARAMETER(leave, INT, IN)};

const ternary_operation ternary_arena[1] = {
    {
        .name = "arena",
        .doc = "Zeroed memory aligned to 16 bytes, as a memoryview of typecode b, B, h or i (default b).",
        .call = check_memory,
        .parameters = memory_parameters,
        .parameter_count = COUNT(memory),
        .has_result = 1,
    },
};
const ternary_operation ternary_heap[1] = {
    {
        .name = "heap",
        .doc = "The same, from MicroPython's heap.",
        .call = check_memory,
        .parameters = memory_parameters,
        .parameter_count = COUNT(memory) - 1, // all but `leave`
        .has_result = 1,
    },
};

static const ternary_parameter cores_parameters[] = {PARAMETER(count, INT, IN)};

const ternary_operation ternary_cores_function[1] = {
    {
        .name = "cores",
        .doc = "Number of cores that operations use; with a count, sets it first.",
        .parameters = cores_parameters,
        .parameter_count = COUNT(cores),
        .has_result = 1,
    },
};

static const ternary_parameter use_parameters[] = {PARAMETER(name, STR, IN)};

const ternary_operation ternary_use_function[1] = {
    {
        .name = "use",
        .doc = "Selects the backend for later calls.",
        .parameters = use_parameters,
        .parameter_count = COUNT(use),
        .has_result = 0,
    },
};
