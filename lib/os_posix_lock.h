/* SPDX-License-Identifier: MIT */
/*
 * os_posix_lock.h - the locks that this process holds, in a table: two handles in one process
 * must conflict, but where flock() is emulated by fcntl() locks (NFS), the kernel sees one
 * owner per process, and nothing that belongs to one handle can know of the other. Private to
 * lib/os_posix*.c.
 *
 * Invariant: an exclusive lock is the only one of its directory. Which that is, its device and
 * its inode say, so that no second path to it helps.
 *
 * When something fails the table is as it was.
 *
 * Threads: any, at any time; a fork in one while another is in the table does no harm.
 */
#ifndef TKV_OS_POSIX_LOCK_H
#define TKV_OS_POSIX_LOCK_H

#include "os.h"

/* lock() of struct tkv_os. */
int tkv_os_posix_lock(struct tkv_os *os, int dir, int fd, bool shared);

/* To be called before any descriptor is closed: releases the lock that it may have. A forked child
 * leaves its parent's alone. */
void tkv_os_posix_forget_lock(int fd);

#endif
