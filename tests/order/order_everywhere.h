/* SPDX-License-Identifier: MIT */
/*
 * order_everywhere.h - the order verifier around every store that a test opens. The linker
 * gives a test's calls of tkv_open(), tkv_put() and so on to order_everywhere.c
 * (tests/order/meson.build), so no test has to ask; this is for those that want less.
 */
#ifndef TKV_ORDER_EVERYWHERE_H
#define TKV_ORDER_EVERYWHERE_H

#include <stdbool.h>
#include <stdint.h>

/* Stores that this thread opens from now on are watched, or not. Returns what it was. */
bool order_watch(bool on);
/* How many rules have been looked at in all stores that were closed. */
uint64_t order_checks(void);

#endif
