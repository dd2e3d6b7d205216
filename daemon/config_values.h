/* Values as people write them: durations, sizes, counts, names. Pure functions. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum value_status {
	VALUE_OK = 0,
	VALUE_EMPTY,
	VALUE_NEGATIVE,
	VALUE_NO_UNIT, /* a duration without one; plain 0 needs none */
	VALUE_BAD,
	VALUE_OVERFLOW,
};

/* "250ms" "30s" "5m" "1h" "0" → ns */
enum value_status value_duration(const char *text, uint64_t *ns);
/* "64K" "16M" "2G" "4096" → bytes */
enum value_status value_size(const char *text, uint64_t *bytes);
/* Decimal, also with leading zeros: 010 is ten. */
enum value_status value_count(const char *text, uint64_t *n);
/* Octal, with or without a leading zero. */
enum value_status value_mode(const char *text, uint64_t *mode);
/* yes no true false on off */
enum value_status value_yes_no(const char *text, bool *yes);
/* What is wrong, for people. Static. */
const char *value_status_text(enum value_status status);

/* A dotted module name such as myapp.handlers. */
bool value_is_module(const char *text);
/* module:function */
bool value_is_target(const char *text);
/* [A-Za-z0-9_.-]{1,64} */
bool value_is_pool_name(const char *text);
/* NAME=value, where NAME is letters, digits and underscores */
bool value_is_environment(const char *text);
/* How many letters differ between two words (more than any limit for long ones): to guess what was meant. */
unsigned value_distance(const char *a, const char *b);
