/* What comes to a stub worker over the call channel. */
#pragma once

struct stub;

/* Reads once and serves each whole message. Leaves when the daemon is gone. */
void inbox_read(struct stub *s);
