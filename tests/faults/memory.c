/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include "memory_private.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *memory);
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd,
                  off_t offset);
int __real_munmap(void *address, size_t size);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *memory);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd,
                  off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd,
                    off_t offset);
int __wrap_munmap(void *address, size_t size);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument);

/* ---- Which requests are refused -------------------------------------------------- */

struct countdown {
    uint64_t at, count;
    bool sticky;
};

struct block {
    void *address; /* NULL: free */
    size_t size;
    uint64_t number;
};

/* Everything below is guarded by it. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct countdown requests, threads;
static bool paused;
static uint64_t refused, number;
static struct block *blocks; /* by address, with linear probing */
static size_t block_count, block_capacity;
static size_t mapped_bytes; /* given back in parts, so no blocks */

static void lock(void)
{
    (void)pthread_mutex_lock(&mutex);
}

static void unlock(void)
{
    (void)pthread_mutex_unlock(&mutex);
}

static bool is_refused(struct countdown *c)
{
    bool hit;

    lock();
    if (!paused && c->at != 0)
        c->count++;
    hit = !paused && c->at != 0 && (c->sticky ? c->count >= c->at : c->count == c->at);
    refused += hit;
    unlock();
    return hit;
}

bool memory_request_is_refused(void)
{
    return is_refused(&requests);
}

void memory_arm(uint64_t at, bool sticky)
{
    lock();
    requests = (struct countdown){.at = at, .sticky = sticky};
    refused = 0;
    paused = false;
    unlock();
}

void memory_arm_threads(uint64_t at, bool sticky)
{
    lock();
    threads = (struct countdown){.at = at, .sticky = sticky};
    refused = 0;
    paused = false;
    unlock();
}

void memory_disarm(void)
{
    lock();
    requests = threads = (struct countdown){.at = 0};
    unlock();
}

void memory_pause(bool on)
{
    lock();
    paused = on;
    unlock();
}

uint64_t memory_refused(void)
{
    uint64_t n;

    lock();
    n = refused;
    unlock();
    return n;
}

/* ---- What is held ---------------------------------------------------------------- */

static size_t slot_of(const void *address)
{
    return (size_t)(((uint64_t)(uintptr_t)address >> 4) * UINT64_C(0x9e3779b97f4a7c15) >>
                    20) &
           (block_capacity - 1);
}

static void insert(struct block block)
{
    size_t at = slot_of(block.address);

    while (blocks[at].address != NULL)
        at = (at + 1) & (block_capacity - 1);
    blocks[at] = block;
    block_count++;
}

static void grow(void)
{
    struct block *old = blocks;
    const size_t count = block_capacity;

    block_capacity = count == 0 ? 4096 : count * 2;
    blocks = __real_calloc(block_capacity, sizeof *blocks);
    if (blocks == NULL)
        abort(); /* a test without memory stops */
    block_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (old[i].address != NULL)
            insert(old[i]);
    }
    __real_free(old);
}

static void *note(void *address, size_t size)
{
    if (address == NULL)
        return NULL;
    lock();
    if (block_count * 2 >= block_capacity)
        grow();
    insert((struct block){address, size, ++number});
    unlock();
    return address;
}

/* What follows a removed block in its run may have to move up. */
static void close_gap(size_t hole)
{
    for (size_t at = (hole + 1) & (block_capacity - 1); blocks[at].address != NULL;
         at = (at + 1) & (block_capacity - 1)) {
        const struct block moved = blocks[at];

        blocks[at].address = NULL;
        block_count--;
        insert(moved);
    }
}

/* Memory that never was the engine's is a bug of whoever gives it back here. */
static void forget_block(const void *address)
{
    size_t at;

    if (address == NULL)
        return;
    lock();
    at = block_capacity == 0 ? 0 : slot_of(address);
    while (block_capacity != 0 && blocks[at].address != NULL &&
           blocks[at].address != address)
        at = (at + 1) & (block_capacity - 1);
    if (block_capacity == 0 || blocks[at].address == NULL)
        abort();
    blocks[at].address = NULL;
    block_count--;
    close_gap(at);
    unlock();
}

size_t memory_held(size_t *ret_newest)
{
    uint64_t newest = 0;
    size_t count;

    lock();
    count = block_count + (mapped_bytes != 0);
    if (ret_newest != NULL)
        *ret_newest = mapped_bytes;
    for (size_t i = 0; i < block_capacity && ret_newest != NULL; i++) {
        if (blocks[i].address != NULL && blocks[i].number > newest) {
            newest = blocks[i].number;
            *ret_newest = blocks[i].size;
        }
    }
    unlock();
    return count;
}

void memory_forget(void)
{
    lock();
    if (blocks != NULL)
        memset(blocks, 0, block_capacity * sizeof *blocks);
    block_count = 0;
    mapped_bytes = 0;
    unlock();
}

/* ---- Instead of the real ones ---------------------------------------------------- */

void *__wrap_malloc(size_t size)
{
    return is_refused(&requests) ? NULL : note(__real_malloc(size), size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_refused(&requests) ? NULL : note(__real_calloc(count, size), count * size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    void *bigger;

    if (is_refused(&requests))
        return NULL;
    bigger = __real_malloc(size);
    if (bigger == NULL)
        return NULL;
    /* Always elsewhere: whoever keeps the old address is found out. */
    if (memory != NULL) {
        size_t old = 0;

        lock();
        for (size_t at = slot_of(memory); blocks[at].address != NULL;
             at = (at + 1) & (block_capacity - 1)) {
            if (blocks[at].address == memory)
                old = blocks[at].size;
        }
        unlock();
        memcpy(bigger, memory, old < size ? old : size);
        forget_block(memory);
        __real_free(memory);
    }
    return note(bigger, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return is_refused(&requests) ? NULL : note(__real_aligned_alloc(alignment, size), size);
}

char *__wrap_strdup(const char *text)
{
    return is_refused(&requests) ? NULL : note(__real_strdup(text), strlen(text) + 1);
}

void __wrap_free(void *memory)
{
    forget_block(memory);
    __real_free(memory);
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd,
                  off_t offset)
{
    void *map;

    if (is_refused(&requests)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    map = __real_mmap(address, size, protection, flags, fd, offset);
    lock();
    mapped_bytes += map == MAP_FAILED ? 0 : size;
    unlock();
    return map;
}

void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd,
                    off_t offset)
{
    return __wrap_mmap(address, size, protection, flags, fd, offset);
}

int __wrap_munmap(void *address, size_t size)
{
    const int result = __real_munmap(address, size);

    lock();
    mapped_bytes -= result == 0 ? size : 0;
    unlock();
    return result;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument)
{
    return is_refused(&threads) ? EAGAIN
                                : __real_pthread_create(thread, attributes, run, argument);
}

/* ---- The harness's own ----------------------------------------------------------- */

void *own_malloc(size_t size);
void *own_calloc(size_t count, size_t size);
void *own_realloc(void *memory, size_t size);
void *own_aligned_alloc(size_t alignment, size_t size);
void own_free(void *memory);
void *own_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int own_munmap(void *address, size_t size);

void *own_malloc(size_t size)
{
    return __real_malloc(size);
}

void *own_calloc(size_t count, size_t size)
{
    return __real_calloc(count, size);
}

void *own_realloc(void *memory, size_t size)
{
    return __real_realloc(memory, size);
}

void *own_aligned_alloc(size_t alignment, size_t size)
{
    return __real_aligned_alloc(alignment, size);
}

void own_free(void *memory)
{
    __real_free(memory);
}

void *own_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return __real_mmap(address, size, protection, flags, fd, offset);
}

int own_munmap(void *address, size_t size)
{
    return __real_munmap(address, size);
}
