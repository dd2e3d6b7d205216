/*
 * JSON and MessagePack, without loss in both directions. What JSON has no word for is an object with one key that begins
 * with a dollar sign:
 *   {"$bin": "aGk="}             bytes, in base64
 *   {"$ext": [5, "aGk="]}        extension type 5
 *   {"$str": "/w=="}             text that is not valid UTF-8
 *   {"$float": "nan"}            nan, inf, -inf
 *   {"$map": [[1, "one"], ...]}  a map with a key that is not text, that comes twice, or whose only key begins with "$"
 * A float with a whole value is printed with ".0", so that it stays a float.
 */
#pragma once

#include <msgpack.h>
#include <stdio.h>

#include "proto/span.h"

#define JSON_DEPTH_MAX 512

/* value: one value that a cursor has accepted. Control characters are escaped, C1 too. */
void json_print(FILE *out, struct span value);
/* Packs the one JSON value in text. False: *error says what is wrong and where (static or in buffer). */
struct json_error {
	size_t offset;
	char message[128];
};
bool json_parse(struct span text, msgpack_sbuffer *out, struct json_error *error);
