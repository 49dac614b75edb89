/* SPDX-License-Identifier: MIT */
/*
 * wal.h - the log as a writer sees it: commit, sync, checkpoint header. Reading it back is
 * wal/replay.h.
 *
 * The life of a commit, mode ALWAYS (group commit, double buffer, natural batching):
 *   - A writer seals its records into the group that is filling: that gives them their
 *     sequence numbers. The first writer of a group leads it, when the group before is done,
 *     unless the leader of that goes on with it: among 32 and more its own absence counts
 *     little, and the device would be idle while somebody else is woken. The others sleep.
 *   - The leader lets those come who were served a moment ago (a device write costs the same
 *     for one and for all of them), takes the group, asks the owner to prepare (memory for
 *     what follows), writes it with one call that returns when the bytes are durable, has the
 *     owner apply it and opens the gate at which its writers wait. The other buffer fills
 *     meanwhile.
 * The relaxed modes store each write into the mapped log at once and apply it under the same
 * lock; a killed process loses nothing of it, and tkv_wal_sync() makes it durable.
 *
 * When something fails:
 *   - No room in the ring, no memory to apply it: that group fails, nothing was logged.
 *   - A failed write or sync: nobody knows what is on disk. The log is poisoned, every later
 *     commit fails, and nothing is ever synced again. In the relaxed modes a failed write
 *     into a log that could not be mapped is as if it had not been.
 *
 * Threads: all functions may be called from any thread. Locks: `lock` is held for copying
 * bytes and, in the relaxed modes, while the owner prepares, applies and says whether a write is
 * wanted; never during I/O, except for the one write of a relaxed commit where the log could not
 * be mapped.
 */
#ifndef TKV_WAL_H
#define TKV_WAL_H

#include "gate.h"
#include "group.h"
#include "lock.h"
#include "os.h"
#include "ring.h"

#include <semaphore.h>

/* One record of a write: where in its bytes it begins, what tkv_record_encode() returned, and
 * whatever the owner wants to find again when the record is applied. */
struct tkv_wal_item {
    size_t offset;
    uint32_t body_sum;
    bool existed;      /* the owner's: filled in when the record is applied */
    uint64_t key_hash; /* the owner's */
};

/* Is the write still to be made? One that looks for a key costs less where the key's entry has
 * arrived while the write was got ready. */
struct tkv_wal_write;
typedef bool tkv_wal_is_wanted(void *context, const struct tkv_wal_write *write);

/* What one caller commits: encoded records, one or a batch. Lives until commit returns. */
struct tkv_wal_write {
    const uint8_t *bytes;
    size_t size;
    struct tkv_wal_item *items;
    size_t count;
    size_t deletes;      /* the owner's: how many of the records are, ... */
    uint64_t user_bytes; /* ... and what they are to the user; counted when applied */
    /* May be NULL. Called with the owner's context: in the relaxed modes under the lock, when
     * nothing but the bytes' way into the log is missing, else before the write joins a group. */
    tkv_wal_is_wanted *is_wanted;

    /* The log's own. */
    struct tkv_wal_write *next;
    size_t payload_offset; /* of these records in the group's payload */
    enum tkv_status status;
    bool done;   /* of the first of a group: when woken, it has been led; else lead it */
    sem_t woken; /* likewise */
};

/* A group that is durable as the mode demands and now takes effect. */
struct tkv_wal_applied {
    const uint8_t *payload; /* sealed records */
    size_t payload_size;
    struct tkv_wal_write *writes; /* in commit order */
    uint64_t seq_first, seq_next;
    uint32_t chain;
    struct tkv_ring_place end; /* a checkpoint may begin here */
};

struct tkv_wal_owner {
    void *context;
    /* Get ready to apply so many bytes; failing refuses the group. One at a time: the next one
     * comes after apply() of this group, or after it has failed or was dropped. In the relaxed
     * modes both are called under the log's lock, which the owner may have given. */
    enum tkv_status (*prepare)(void *context, size_t payload_size, struct tkv_error *err);
    /* Make the group visible. One at a time, in commit order. Cannot fail. */
    void (*apply)(void *context, const struct tkv_wal_applied *group);
    /* The ring has no room for `extent` bytes: checkpoint, or grow. Called without locks.
     * TKV_OK means try again. */
    enum tkv_status (*make_room)(void *context, uint64_t extent, struct tkv_error *err);
    /* The calling thread is about to wait for the disk, for so many writers. One at a time;
     * may be NULL. */
    void (*before_wait)(void *context, unsigned writers);
};

struct tkv_wal_group_buffer {
    uint8_t *bytes; /* 4096-aligned; the payload begins behind a header's size */
    size_t capacity;
    size_t payload_size;
    uint32_t count;
    unsigned writers;
    uint64_t seq_first;
    struct tkv_gate gate; /* opened when the group is done */
    struct tkv_wal_write *first, **last;
};

struct tkv_wal_counters {
    uint64_t bytes_written, syncs, groups, records, records_max;
};

struct tkv_wal {
    /* Constant after opening. */
    struct tkv_os *os;
    struct tkv_wal_owner owner;
    uint8_t uuid[16];
    bool always;
    int fd;        /* buffered: maps, grows, syncs */
    int direct_fd; /* writes that are durable when they return; -1 where that is refused */
    void *map;     /* of the whole file up to its cap, relaxed modes only; or NULL */
    uint64_t size_max;
    size_t group_size_max; /* a group stops growing here unless one write is larger */

    struct tkv_mutex own_lock;
    struct tkv_mutex *lock; /* it, or the owner's */
    /* Guarded by lock. */
    uint64_t salt;
    uint64_t seq_next;
    uint64_t durable; /* log position: everything before it is on disk */
    uint32_t chain;
    bool leader_active;
    unsigned expected;        /* writers who are likely to be in the next group */
    uint64_t gather_again_us; /* until then a leader waits for nobody */
    unsigned waiting_to_join; /* writers that found the filling group full ... */
    pthread_cond_t can_join;  /* ... and wait for the next */
    bool align_next; /* bytes before the head are durable: leave their block alone */
    enum tkv_status poisoned;
    struct tkv_ring ring;
    struct tkv_wal_group_buffer buffers[2];
    unsigned filling; /* which of them */
    struct tkv_wal_counters counters;

    /* One sync of `fd` at a time, and the poison when it fails; taken before `lock`. */
    struct tkv_mutex sync_lock;
    uint8_t *block; /* 4096 aligned bytes for header blocks; the owner serialises
                       header writes */
};

/* Make a new wal.log of `size` zeroed bytes with `header` in both blocks, and sync it. The
 * directory entry is the caller's to sync. */
enum tkv_status tkv_wal_create(struct tkv_os *os, int dir,
                               const struct tkv_wal_header *header, struct tkv_error *err);

struct tkv_wal_config {
    struct tkv_os *os;
    int dir;
    bool always;
    uint64_t size_max; /* of the file */
    struct tkv_wal_owner owner;
    struct tkv_mutex *lock; /* the log's from now on, in the relaxed modes; or NULL */
    uint8_t uuid[16];
    uint64_t salt; /* a new one */
    uint64_t seq_next;
    uint64_t position; /* above every position ever used */
    uint64_t ring_end;
};

/* Get ready to write with an empty ring that begins at `position`. Nothing is written: the
 * first thing must be tkv_wal_write_header() with a checkpoint at that place. */
enum tkv_status tkv_wal_open(struct tkv_wal *wal, const struct tkv_wal_config *config,
                             struct tkv_error *err);
void tkv_wal_close(struct tkv_wal *wal);
/* The same in a forked child, where other threads may seem to hold locks for ever: they are
 * left as they are. */
void tkv_wal_abandon(struct tkv_wal *wal);

/* Commit all records of `write` as one unit. In mode ALWAYS they are durable when this
 * returns; in every mode they have been applied. TKV_NOT_FOUND: write->is_wanted() said no, and
 * nothing was logged; `err` is left alone. */
enum tkv_status tkv_wal_commit(struct tkv_wal *wal, struct tkv_wal_write *write,
                               struct tkv_error *err);

/* Everything committed before this call is durable when it returns. */
enum tkv_status tkv_wal_sync(struct tkv_wal *wal, struct tkv_error *err);

/* Write `header` into one of the two blocks, by its generation, durably. Its ring_end and
 * durable_mark are filled in. Failing poisons the log. */
enum tkv_status tkv_wal_write_header(struct tkv_wal *wal, struct tkv_wal_header *header,
                                     struct tkv_error *err);

/* Would a group of that extent fit now? */
bool tkv_wal_has_room(struct tkv_wal *wal, uint64_t extent);

/* A header with a checkpoint at `place` is durable: its space may be used again. */
void tkv_wal_release(struct tkv_wal *wal, const struct tkv_ring_place *place);

/* Extend the file with zeroed blocks to `end`, at most size_max: synced ones in mode ALWAYS, in
 * the relaxed modes ones that exist and are in the cache. Failing leaves the log as it was
 * (TKV_NO_SPACE), or poisoned when what was durable may be lost. One call at a time. */
enum tkv_status tkv_wal_grow(struct tkv_wal *wal, uint64_t end, struct tkv_error *err);

/* An empty log that will be written to no more: its ring ends at `end` from now on, and begins
 * anew at *ret_place, for a checkpoint. */
void tkv_wal_restart(struct tkv_wal *wal, uint64_t end, struct tkv_ring_place *ret_place);

/* Give back what the file has beyond the ring, once both headers know where that ends. Failing to
 * is harmless, as is a power cut that brings it back. Nobody writes any more. */
void tkv_wal_cut(struct tkv_wal *wal);

/* Refuse every later commit with `status`. The first call counts. */
void tkv_wal_poison(struct tkv_wal *wal, enum tkv_status status);

/* TKV_OK, or why every later commit fails. */
enum tkv_status tkv_wal_poisoned(struct tkv_wal *wal);

struct tkv_wal_state {
    uint64_t used, capacity, end;
    bool wrapped; /* the head is a lap ahead: growing brings no room yet */
    uint64_t head_position, durable;
    uint64_t seq_next;
    enum tkv_status poisoned;
    struct tkv_wal_counters counters;
};

void tkv_wal_state(struct tkv_wal *wal, struct tkv_wal_state *ret_state);

#endif
