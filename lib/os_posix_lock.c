/* SPDX-License-Identifier: MIT */
#include "os_posix_lock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct held_lock {
    dev_t device;
    ino_t inode;
    int fd;
    pid_t owner;
    bool shared;
    struct held_lock *next;
};

/* The one deliberate exception to "no mutable state at file scope": see the header. */
static pthread_mutex_t held_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct held_lock *held_locks;
static pthread_once_t held_once = PTHREAD_ONCE_INIT;

/* The table ---------------------------------------------------------------------------- */

static void held_lock_table(void)
{
    (void)pthread_mutex_lock(&held_mutex);
}

static void held_unlock_table(void)
{
    (void)pthread_mutex_unlock(&held_mutex);
}

/* A fork in one thread while another is in the table would leave it locked for ever in the
 * child, where close() must stay harmless. */
static void held_survive_fork(void)
{
    (void)pthread_atfork(held_lock_table, held_unlock_table, held_unlock_table);
}

static int held_add(const struct held_lock *wanted)
{
    struct held_lock *added;

    for (const struct held_lock *h = held_locks; h != NULL; h = h->next) {
        if (h->fd == wanted->fd)
            return -EINVAL;
        if (h->device == wanted->device && h->inode == wanted->inode &&
            !(h->shared && wanted->shared))
            return -EWOULDBLOCK;
    }
    added = malloc(sizeof *added);
    if (added == NULL)
        return -ENOMEM;
    *added = *wanted;
    added->next = held_locks;
    held_locks = added;
    return 0;
}

/* A child that was forked since shares the lock and would hold it on: closing does not release
 * it, and must not do so in the child. */
static void release(const struct held_lock *h)
{
    if (h->owner == getpid())
        (void)flock(h->fd, LOCK_UN);
}

static void held_remove(int fd)
{
    for (struct held_lock **at = &held_locks; *at != NULL; at = &(*at)->next) {
        struct held_lock *h = *at;
        if (h->fd == fd) {
            *at = h->next;
            release(h);
            free(h);
            return;
        }
    }
}

/* Lock and forget ---------------------------------------------------------------------- */

static int flock_retry(int fd, int operation)
{
    int rc;

    do
        rc = flock(fd, operation | LOCK_NB) < 0 ? -errno : 0;
    while (rc == -EINTR);
    return rc;
}

int tkv_os_posix_lock(struct tkv_os *os, int dir, int fd, bool shared)
{
    struct stat st;
    int rc;

    (void)os;
    if (fstat(dir, &st) < 0)
        return -errno;
    (void)pthread_once(&held_once, held_survive_fork);
    held_lock_table();
    rc = held_add(&(struct held_lock){st.st_dev, st.st_ino, fd, getpid(), shared, NULL});
    if (rc == 0) {
        rc = flock_retry(fd, shared ? LOCK_SH : LOCK_EX);
        if (rc < 0)
            held_remove(fd);
    }
    held_unlock_table();
    return rc;
}

void tkv_os_posix_forget_lock(int fd)
{
    (void)pthread_once(&held_once, held_survive_fork);
    held_lock_table();
    held_remove(fd);
    held_unlock_table();
}
