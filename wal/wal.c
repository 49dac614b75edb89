/* SPDX-License-Identifier: MIT */
#include "wal.h"

#include "error.h"
#include "file_name.h"
#include "record.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define GROUP_SIZE_MAX \
    (1024u * 1024)           /* a group stops growing here unless one write is larger */
#define LEAD_GROUPS_MAX   4u /* a leader's own write has been done since the first */
#define BUFFER_SIZE_FIRST (64u * 1024)
#define BUFFER_SIZE_KEPT  (4u * 1024 * 1024)
#define ZERO_CHUNK_SIZE   (256u * 1024)

/* ---- Creating and growing the file ------------------------------------------------------ */

/* Blocks that were written once can be overwritten without any change of metadata, which a
 * merely allocated extent cannot; hence real zeros. */
static enum tkv_status write_zeros(struct tkv_os *os, int fd, uint64_t from, uint64_t to,
                                   struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;
    uint8_t *zeros = calloc(1, ZERO_CHUNK_SIZE);

    if (zeros == NULL)
        return tkv_fail_memory(err, ZERO_CHUNK_SIZE, "zeros for wal.log");
    while (from < to && status == TKV_OK) {
        const size_t size =
            to - from < ZERO_CHUNK_SIZE ? (size_t)(to - from) : ZERO_CHUNK_SIZE;
        const int result = tkv_os_write_all(os, fd, zeros, size, from);

        if (result < 0)
            status = tkv_fail_os(err, result, TKV_WAL_NAME, "extend %s to %llu bytes",
                                 TKV_WAL_NAME, (unsigned long long)to);
        from += size;
    }
    free(zeros);
    return status;
}

enum tkv_status tkv_wal_create(struct tkv_os *os, int dir,
                               const struct tkv_wal_header *header, struct tkv_error *err)
{
    uint8_t block[TKV_BLOCK_SIZE];
    enum tkv_status status;
    int fd, result;

    fd = os->open(os, dir, TKV_WAL_NAME, TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_TRUNCATE);
    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_WAL_NAME, "create %s", TKV_WAL_NAME);

    status = write_zeros(os, fd, 0, header->ring_end, err);
    if (status != TKV_OK)
        goto out;
    tkv_wal_header_encode(header, block);
    for (uint64_t offset = 0; offset < TKV_WAL_RING_START; offset += TKV_BLOCK_SIZE) {
        result = tkv_os_write_all(os, fd, block, sizeof block, offset);
        if (result < 0) {
            status = tkv_fail_os(err, result, TKV_WAL_NAME, "write %s", TKV_WAL_NAME);
            goto out;
        }
    }
    result = os->sync(os, fd);
    if (result < 0)
        status = tkv_fail_os(err, result, TKV_WAL_NAME, "sync %s", TKV_WAL_NAME);
out:
    (void)os->close(os, fd); /* synced, or abandoned */
    return status;
}

static void poison_locked(struct tkv_wal *wal, enum tkv_status status)
    TKV_REQUIRES(wal->lock)
{
    if (wal->poisoned == TKV_OK)
        wal->poisoned = status;
}

void tkv_wal_poison(struct tkv_wal *wal, enum tkv_status status)
{
    tkv_mutex_lock(&wal->lock);
    poison_locked(wal, status);
    tkv_mutex_unlock(&wal->lock);
}

static enum tkv_status fail_poisoned(const struct tkv_wal *wal, struct tkv_error *err)
{
    return tkv_fail(err, TKV_POISONED,
                    "an earlier write or sync failed (%s); open the store again to write",
                    tkv_status_text(wal->poisoned));
}

static void count_sync(struct tkv_wal *wal)
{
    tkv_mutex_lock(&wal->lock);
    wal->counters.syncs++;
    tkv_mutex_unlock(&wal->lock);
}

enum tkv_status tkv_wal_grow(struct tkv_wal *wal, uint64_t end, struct tkv_error *err)
{
    enum tkv_status status;
    int result;

    end = tkv_round_up(end, TKV_BLOCK_SIZE);
    assert(end > wal->ring.end);
    assert(end <= wal->size_max);
    status = write_zeros(wal->os, wal->fd, wal->ring.end, end, err);
    if (status != TKV_OK) {
        /* Half a growth is harmless: the ring ends where it did. Give the space back. */
        (void)wal->os->truncate(wal->os, wal->fd, wal->ring.end);
        return status;
    }
    result = wal->os->sync(wal->os, wal->fd);
    count_sync(wal);
    if (result < 0) {
        tkv_wal_poison(wal, TKV_IO);
        return tkv_fail_os(err, result, TKV_WAL_NAME, "sync %s", TKV_WAL_NAME);
    }
    tkv_mutex_lock(&wal->lock);
    wal->ring.end = end;
    tkv_mutex_unlock(&wal->lock);
    return TKV_OK;
}

/* ---- Opening and closing ------------------------------------------------------------- */

static void init_buffers(struct tkv_wal *wal)
{
    (void)pthread_cond_init(&wal->can_join, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct tkv_wal_group_buffer *b = &wal->buffers[i];

        memset(b, 0, sizeof *b);
        b->last = &b->first;
    }
}

enum tkv_status tkv_wal_open(struct tkv_wal *wal, const struct tkv_wal_config *config,
                             struct tkv_error *err)
{
    const struct tkv_ring_place start = {config->position, TKV_WAL_RING_START, 0};
    struct tkv_os *os = config->os;
    enum tkv_status status;

    memset(wal, 0, sizeof *wal);
    wal->os = os;
    wal->owner = config->owner;
    memcpy(wal->uuid, config->uuid, sizeof wal->uuid);
    wal->always = config->always;
    wal->size_max = config->size_max;
    wal->salt = config->salt;
    wal->seq_next = config->seq_next;
    wal->durable = config->position;
    wal->ring.end = config->ring_end;
    wal->ring.head = wal->ring.tail = start;
    wal->fd = wal->direct_fd = -1;
    tkv_mutex_init(&wal->lock);
    tkv_mutex_init(&wal->sync_lock);
    init_buffers(wal);

    wal->block = aligned_alloc(TKV_BLOCK_SIZE, TKV_BLOCK_SIZE);
    if (wal->block == NULL) {
        status = tkv_fail_memory(err, TKV_BLOCK_SIZE, "a header block");
        goto fail;
    }
    wal->fd = os->open(os, config->dir, TKV_WAL_NAME, TKV_OS_WRITE);
    if (wal->fd < 0) {
        status = tkv_fail_os(err, wal->fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
        goto fail;
    }
    wal->direct_fd =
        os->open(os, config->dir, TKV_WAL_NAME, TKV_OS_WRITE | TKV_OS_DIRECT_SYNC);
    if (wal->direct_fd < 0 && wal->direct_fd != -EINVAL) {
        status = tkv_fail_os(err, wal->direct_fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
        goto fail;
    }
    if (!wal->always) {
        wal->map_size = (size_t)wal->size_max;
        /* Without a mapping each commit is a write, which promises the same. */
        if (os->map(os, wal->fd, wal->map_size, true, &wal->map) < 0)
            wal->map = NULL;
    }
    return TKV_OK;
fail:
    tkv_wal_close(wal);
    return status;
}

void tkv_wal_abandon(struct tkv_wal *wal)
{
    if (wal->os == NULL)
        return;
    if (wal->map != NULL)
        (void)wal->os->unmap(wal->os, wal->map, wal->map_size);
    if (wal->direct_fd >= 0)
        (void)wal->os->close(wal->os, wal->direct_fd);
    if (wal->fd >= 0)
        (void)wal->os->close(wal->os, wal->fd);
    for (unsigned i = 0; i < 2; i++)
        free(wal->buffers[i].bytes);
    free(wal->block);
    wal->os = NULL;
}

void tkv_wal_close(struct tkv_wal *wal)
{
    if (wal->os == NULL)
        return;
    tkv_wal_abandon(wal);
    (void)pthread_cond_destroy(&wal->can_join);
    tkv_mutex_destroy(&wal->sync_lock);
    tkv_mutex_destroy(&wal->lock);
    memset(wal, 0, sizeof *wal);
}

/* ---- Filling a group ------------------------------------------------------------------- */

static enum tkv_status reserve(struct tkv_wal_group_buffer *b, size_t more,
                               struct tkv_error *err)
{
    const size_t need = (size_t)tkv_round_up(TKV_GROUP_HEADER_SIZE + b->payload_size + more,
                                             TKV_BLOCK_SIZE);
    size_t capacity = b->capacity < BUFFER_SIZE_FIRST ? BUFFER_SIZE_FIRST : b->capacity;
    uint8_t *bytes;

    if (need <= b->capacity)
        return TKV_OK;
    while (capacity < need)
        capacity *= 2;
    bytes = aligned_alloc(TKV_BLOCK_SIZE, capacity);
    if (bytes == NULL)
        return tkv_fail_memory(err, capacity, "a commit group");
    if (b->payload_size > 0)
        memcpy(bytes + TKV_GROUP_HEADER_SIZE, b->bytes + TKV_GROUP_HEADER_SIZE,
               b->payload_size);
    free(b->bytes);
    b->bytes = bytes;
    b->capacity = capacity;
    return TKV_OK;
}

/* Copy the records into the group and give them the next sequence numbers. */
static enum tkv_status join_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                  struct tkv_wal_write *write, struct tkv_error *err)
    TKV_REQUIRES(wal->lock)
{
    uint8_t *at;
    enum tkv_status status = reserve(b, write->size, err);

    if (status != TKV_OK)
        return status;
    if (b->first == NULL)
        b->seq_first = wal->seq_next;
    write->payload_offset = b->payload_size;
    at = b->bytes + TKV_GROUP_HEADER_SIZE + b->payload_size;
    memcpy(at, write->bytes, write->size);
    for (size_t i = 0; i < write->count; i++)
        tkv_record_seal(at + write->items[i].offset, write->items[i].body_sum,
                        wal->seq_next++);
    b->payload_size += write->size;
    b->count += (uint32_t)write->count;
    *b->last = write;
    b->last = &write->next;
    return TKV_OK;
}

static void empty_group(struct tkv_wal_group_buffer *b)
{
    b->payload_size = 0;
    b->count = 0;
    b->first = NULL;
    b->last = &b->first;
    if (b->capacity > BUFFER_SIZE_KEPT) {
        free(b->bytes);
        b->bytes = NULL;
        b->capacity = 0;
    }
}

/* Stamp the header. Returns what the next group must name as its predecessor. */
static uint32_t stamp_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                            const struct tkv_ring_place *place, uint64_t extent)
    TKV_REQUIRES(wal->lock)
{
    const size_t used = TKV_GROUP_HEADER_SIZE + b->payload_size;
    const struct tkv_group group = {
        .salt = wal->salt,
        .position = place->position,
        .seq = b->seq_first,
        .durable = wal->durable,
        .payload_size = (uint32_t)b->payload_size,
        .count = b->count,
        .chain = wal->chain,
        .ends_at_block = wal->always,
    };

    memset(b->bytes + used, 0, (size_t)extent - used);
    return tkv_group_encode(&group, tkv_group_seed(wal->uuid, place->file_offset),
                            b->bytes);
}

/* The group is as durable as the mode demands: account for it. */
static void count_group(struct tkv_wal *wal, const struct tkv_wal_group_buffer *b,
                        const struct tkv_ring_place *place, uint64_t extent, uint32_t chain)
    TKV_REQUIRES(wal->lock)
{
    tkv_ring_advance(&wal->ring, place, extent);
    wal->chain = chain;
    if (wal->always) {
        wal->durable = wal->ring.head.position;
        wal->counters.syncs++;
    }
    wal->counters.groups++;
    wal->counters.records += b->count;
    if (b->count > wal->counters.records_max)
        wal->counters.records_max = b->count;
    wal->counters.bytes_written += extent;
}

/* What the owner applies; read without the lock by the one who leads. */
static struct tkv_wal_applied describe_applied(const struct tkv_wal *wal,
                                               const struct tkv_wal_group_buffer *b)
{
    return (struct tkv_wal_applied){
        .payload = b->bytes + TKV_GROUP_HEADER_SIZE,
        .payload_size = b->payload_size,
        .writes = b->first,
        .seq_first = b->seq_first,
        .seq_next = b->seq_first + b->count,
        .chain = wal->chain,
        .end = wal->ring.head,
    };
}

/* Wait until the ring has room. The lock is dropped meanwhile; the caller is the only one who
 * takes room. */
static enum tkv_status find_room(struct tkv_wal *wal, uint64_t extent,
                                 struct tkv_ring_place *ret_place, struct tkv_error *err)
    TKV_REQUIRES(wal->lock)
{
    while (!tkv_ring_fit(&wal->ring, extent, wal->always || wal->align_next, ret_place)) {
        enum tkv_status status;

        tkv_mutex_unlock(&wal->lock);
        status = wal->owner.make_room(wal->owner.context, extent, err);
        tkv_mutex_lock(&wal->lock);
        if (status != TKV_OK)
            return status;
        if (wal->poisoned != TKV_OK)
            return fail_poisoned(wal, err);
    }
    return TKV_OK;
}

/* ---- Mode ALWAYS: lead a group, or wait for a leader ------------------------------------- */

static int write_durably(struct tkv_wal *wal, const void *bytes, size_t size,
                         uint64_t offset)
{
    struct tkv_os *os = wal->os;
    int result;

    if (wal->direct_fd >= 0)
        return tkv_os_write_all(os, wal->direct_fd, bytes, size, offset);
    result = tkv_os_write_all(os, wal->fd, bytes, size, offset);
    return result < 0 ? result : os->sync(os, wal->fd);
}

/* Write the group in `b`, which nobody joins any more. */
static enum tkv_status write_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                   struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    const uint64_t extent = tkv_group_extent((uint32_t)b->payload_size, true);
    struct tkv_ring_place place;
    enum tkv_status status;
    uint32_t chain;
    int result;

    status = find_room(wal, extent, &place, err);
    if (status != TKV_OK)
        return status;
    chain = stamp_group(wal, b, &place, extent);
    tkv_mutex_unlock(&wal->lock);

    status = wal->owner.prepare(wal->owner.context, b->payload_size, err);
    if (status != TKV_OK) {
        tkv_mutex_lock(&wal->lock);
        return status;
    }
    result = write_durably(wal, b->bytes, (size_t)extent, place.file_offset);

    tkv_mutex_lock(&wal->lock);
    if (result < 0) {
        poison_locked(wal, TKV_IO);
        (void)tkv_fail_os(err, result, TKV_WAL_NAME, "write a group at offset %llu of %s",
                          (unsigned long long)place.file_offset, TKV_WAL_NAME);
        if (err != NULL)
            err->status = TKV_IO; /* even a full disk: the outcome is unknown here */
        return TKV_IO;
    }
    count_group(wal, b, &place, extent, chain);
    return TKV_OK;
}

/* Once woken, a write belongs to its caller again. */
static void wake_writers(struct tkv_wal_write *first, enum tkv_status status)
{
    struct tkv_wal_write *next;

    for (struct tkv_wal_write *w = first; w != NULL; w = next) {
        next = w->next;
        w->status = status;
        w->done = true;
        (void)sem_post(&w->woken);
    }
}

/* Write one group, apply it and let its writers go. */
static enum tkv_status commit_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                    struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    enum tkv_status status =
        wal->poisoned != TKV_OK ? fail_poisoned(wal, err) : write_group(wal, b, err);
    const struct tkv_wal_applied applied = describe_applied(wal, b);

    /* Without the lock, so that those who are woken do not run into it. */
    tkv_mutex_unlock(&wal->lock);
    if (status == TKV_OK)
        wal->owner.apply(wal->owner.context, &applied);
    wake_writers(applied.writes, status);
    tkv_mutex_lock(&wal->lock);
    empty_group(b);
    return status;
}

/* Nobody joins the group that was filling any more. */
static struct tkv_wal_group_buffer *take_group(struct tkv_wal *wal) TKV_REQUIRES(wal->lock)
{
    struct tkv_wal_group_buffer *b = &wal->buffers[wal->filling];

    wal->filling ^= 1;
    if (wal->waiting_to_join > 0)
        (void)pthread_cond_broadcast(&wal->can_join);
    return b;
}

static bool is_anybody_waiting(const struct tkv_wal *wal)
{
    return wal->buffers[wal->filling].first != NULL;
}

/* The caller's own write is in the first group, and its outcome is what is returned. */
static enum tkv_status lead(struct tkv_wal *wal, struct tkv_error *err)
    TKV_REQUIRES(wal->lock)
{
    enum tkv_status status = commit_group(wal, take_group(wal), err);

    for (unsigned i = 1; i < LEAD_GROUPS_MAX && is_anybody_waiting(wal); i++)
        (void)commit_group(wal, take_group(wal), NULL);
    wal->leader_active = is_anybody_waiting(wal);
    if (wal->leader_active)
        (void)sem_post(&wal->buffers[wal->filling].first->woken);
    return status;
}

static void wait_to_join(struct tkv_wal *wal) TKV_REQUIRES(wal->lock) TKV_NO_ANALYSIS
{
    (void)pthread_cond_wait(&wal->can_join, &wal->lock.handle);
}

static bool group_is_full(const struct tkv_wal_group_buffer *b, size_t more)
{
    return b->first != NULL && b->payload_size + more > GROUP_SIZE_MAX;
}

static enum tkv_status check_usable(const struct tkv_wal *wal,
                                    const struct tkv_wal_write *write,
                                    struct tkv_error *err)
{
    if (wal->poisoned != TKV_OK)
        return fail_poisoned(wal, err);
    if (wal->seq_next > INT64_MAX - write->count)
        return tkv_fail(err, TKV_TOO_BIG, "sequence number %llu: the store is used up",
                        (unsigned long long)wal->seq_next);
    return TKV_OK;
}

/* Get into the filling group. A full one has writers who will lead it; there is another one to
 * join as soon as one of them does. */
static enum tkv_status join(struct tkv_wal *wal, struct tkv_wal_write *write,
                            struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    enum tkv_status status = check_usable(wal, write, err);

    while (status == TKV_OK && group_is_full(&wal->buffers[wal->filling], write->size)) {
        wal->waiting_to_join++;
        wait_to_join(wal);
        wal->waiting_to_join--;
        status = check_usable(wal, write, err);
    }
    if (status == TKV_OK)
        status = join_group(wal, &wal->buffers[wal->filling], write, err);
    return status;
}

/* Until the group is done, or the writer is to lead it; without the lock. */
static void sleep_until_woken(struct tkv_wal_write *write)
{
    while (sem_wait(&write->woken) != 0)
        ; /* a signal handler ran */
}

static enum tkv_status follow(struct tkv_wal_write *write, struct tkv_error *err)
{
    if (write->status == TKV_OK)
        return TKV_OK;
    return tkv_fail(err, write->status, "the commit group failed: %s",
                    tkv_status_text(write->status));
}

static enum tkv_status commit_durably(struct tkv_wal *wal, struct tkv_wal_write *write,
                                      struct tkv_error *err)
{
    enum tkv_status status;
    bool follows;

    tkv_mutex_lock(&wal->lock);
    status = join(wal, write, err);
    follows = status == TKV_OK && wal->leader_active;
    if (status == TKV_OK && !follows) {
        wal->leader_active = true;
        status = lead(wal, err);
    }
    tkv_mutex_unlock(&wal->lock);
    if (!follows)
        return status;

    sleep_until_woken(write);
    if (write->done)
        return follow(write, err);
    tkv_mutex_lock(&wal->lock);
    status = lead(wal, err);
    tkv_mutex_unlock(&wal->lock);
    return status;
}

/* ---- Relaxed modes: store and apply under the lock ------------------------------------ */

static enum tkv_status put_bytes(struct tkv_wal *wal, const struct tkv_wal_group_buffer *b,
                                 uint64_t offset, size_t size, struct tkv_error *err)
{
    int result;

    if (wal->map != NULL) {
        wal->os->store(wal->os, wal->fd, wal->map, offset, b->bytes, size);
        return TKV_OK;
    }
    result = tkv_os_write_all(wal->os, wal->fd, b->bytes, size, offset);
    if (result == 0)
        return TKV_OK;
    /* The head has not moved: the next group overwrites what this one left, and were it only
     * in part, chain and checksums tell. */
    return tkv_fail_os(err, result, TKV_WAL_NAME, "write a group at offset %llu of %s",
                       (unsigned long long)offset, TKV_WAL_NAME);
}

static enum tkv_status commit_relaxed(struct tkv_wal *wal, struct tkv_wal_write *write,
                                      struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    struct tkv_wal_group_buffer *b = &wal->buffers[0];
    const uint64_t extent = tkv_group_extent((uint32_t)write->size, false);
    struct tkv_ring_place place;
    struct tkv_wal_applied applied;
    enum tkv_status status;
    uint32_t chain;

    status = check_usable(wal, write, err);
    if (status != TKV_OK)
        return status;
    /* Others may take the room while it is being made: whoever looks first after that gets
     * it, and `place` is only valid until the lock is dropped. */
    status = find_room(wal, extent, &place, err);
    if (status != TKV_OK)
        return status;
    status = wal->owner.prepare(wal->owner.context, write->size, err);
    if (status != TKV_OK)
        return status;
    status = join_group(wal, b, write, err);
    if (status != TKV_OK)
        return status;
    chain = stamp_group(wal, b, &place, extent);
    status = put_bytes(wal, b, place.file_offset, (size_t)extent, err);
    if (status == TKV_OK) {
        wal->align_next = false;
        count_group(wal, b, &place, extent, chain);
        applied = describe_applied(wal, b);
        wal->owner.apply(wal->owner.context, &applied);
    }
    empty_group(b);
    return status;
}

enum tkv_status tkv_wal_commit(struct tkv_wal *wal, struct tkv_wal_write *write,
                               struct tkv_error *err)
{
    enum tkv_status status;

    assert(write->count > 0);
    write->next = NULL;
    write->done = false;
    write->status = TKV_OK;
    if (!wal->always) {
        tkv_mutex_lock(&wal->lock);
        status = commit_relaxed(wal, write, err);
        tkv_mutex_unlock(&wal->lock);
        return status;
    }
    (void)sem_init(&write->woken, 0, 0);
    status = commit_durably(wal, write, err);
    (void)sem_destroy(&write->woken);
    return status;
}

/* ---- Sync, checkpoint header, state --------------------------------------------------- */

static enum tkv_status sync_to_head(struct tkv_wal *wal, struct tkv_error *err)
    TKV_REQUIRES(wal->sync_lock)
{
    enum tkv_status status = TKV_OK;
    uint64_t target;
    bool is_needed;
    int result;

    tkv_mutex_lock(&wal->lock);
    target = wal->ring.head.position;
    is_needed = target > wal->durable;
    if (wal->poisoned != TKV_OK)
        status = fail_poisoned(wal, err);
    else if (is_needed)
        wal->align_next = true;
    tkv_mutex_unlock(&wal->lock);
    if (status != TKV_OK || !is_needed)
        return status;

    result = wal->os->sync(wal->os, wal->fd);
    tkv_mutex_lock(&wal->lock);
    wal->counters.syncs++;
    if (result < 0)
        poison_locked(wal, TKV_IO);
    else if (target > wal->durable)
        wal->durable = target;
    tkv_mutex_unlock(&wal->lock);
    if (result < 0) {
        (void)tkv_fail_os(err, result, TKV_WAL_NAME, "sync %s", TKV_WAL_NAME);
        return TKV_IO;
    }
    return TKV_OK;
}

enum tkv_status tkv_wal_sync(struct tkv_wal *wal, struct tkv_error *err)
{
    enum tkv_status status;

    tkv_mutex_lock(&wal->sync_lock);
    status = sync_to_head(wal, err);
    tkv_mutex_unlock(&wal->sync_lock);
    return status;
}

enum tkv_status tkv_wal_write_header(struct tkv_wal *wal, struct tkv_wal_header *header,
                                     struct tkv_error *err)
{
    const uint64_t offset = header->checkpoint.generation % 2 * TKV_BLOCK_SIZE;
    int result;

    tkv_mutex_lock(&wal->lock);
    header->ring_end = wal->ring.end;
    header->durable_mark = wal->durable;
    wal->counters.syncs++;
    wal->counters.bytes_written += TKV_BLOCK_SIZE;
    tkv_mutex_unlock(&wal->lock);

    tkv_wal_header_encode(header, wal->block);
    result = write_durably(wal, wal->block, TKV_BLOCK_SIZE, offset);
    if (result < 0) {
        tkv_wal_poison(wal, TKV_IO);
        (void)tkv_fail_os(err, result, TKV_WAL_NAME,
                          "write the checkpoint at offset %llu of %s",
                          (unsigned long long)offset, TKV_WAL_NAME);
        return TKV_IO;
    }
    return TKV_OK;
}

bool tkv_wal_has_room(struct tkv_wal *wal, uint64_t extent)
{
    struct tkv_ring_place place;
    bool fits;

    tkv_mutex_lock(&wal->lock);
    fits = tkv_ring_fit(&wal->ring, extent, wal->always || wal->align_next, &place);
    tkv_mutex_unlock(&wal->lock);
    return fits;
}

void tkv_wal_release(struct tkv_wal *wal, const struct tkv_ring_place *place)
{
    tkv_mutex_lock(&wal->lock);
    tkv_ring_release(&wal->ring, place);
    tkv_mutex_unlock(&wal->lock);
}

void tkv_wal_state(struct tkv_wal *wal, struct tkv_wal_state *ret_state)
{
    tkv_mutex_lock(&wal->lock);
    ret_state->used = tkv_ring_used(&wal->ring);
    ret_state->capacity = tkv_ring_capacity(&wal->ring);
    ret_state->end = wal->ring.end;
    ret_state->head_position = wal->ring.head.position;
    ret_state->durable = wal->durable;
    ret_state->seq_next = wal->seq_next;
    ret_state->poisoned = wal->poisoned;
    ret_state->counters = wal->counters;
    tkv_mutex_unlock(&wal->lock);
}
