/* SPDX-License-Identifier: MIT */
/* memory_private.h - what memory.c and memory_codec.c share. */
#ifndef FAULTS_MEMORY_PRIVATE_H
#define FAULTS_MEMORY_PRIVATE_H

#include <stdbool.h>

/* Count one request of the engine. */
bool memory_request_is_refused(void);

#endif
