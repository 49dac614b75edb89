/* SPDX-License-Identifier: MIT */
/*
 * tinykv.h - a crash-safe key-value store in one directory, for one process and any number
 * of its threads. Read from top to bottom, this header is the manual.
 *
 *     struct tkv_options options = TKV_OPTIONS_DEFAULT;
 *     struct tkv_store *store;
 *     struct tkv_error err;
 *
 *     if (tkv_open("data", &options, &store, NULL, &err) != TKV_OK)
 *         ...                                    (err.message says what, where and why)
 *     tkv_put(store, tkv_text("name"), tkv_text("value"), &err);
 *     tkv_close(store, &err);
 *
 * What the store promises
 *
 *   Durability is a mode of the store (enum tkv_durability):
 *
 *     mode       a call returns when       after a killed process   after a power cut
 *     ALWAYS     the write is on disk      nothing is lost          nothing is lost
 *     INTERVAL   the log has the bytes     nothing is lost          at most the last interval
 *     NONE       the log has the bytes     nothing is lost          a suffix of the writes
 *
 *   - Whatever the crash, the recovered store is a prefix of the commit order: never a hole,
 *     and a batch is there whole or not at all. tkv_sync() is a hard point in every mode.
 *   - A read returns bytes that were written for that key, or an error: every read verifies
 *     the record's checksum and compares the key.
 *   - A torn tail of unacknowledged bytes is cut (kept in quarantine/ and reported). Damage
 *     to acknowledged bytes is never called a torn tail: the store refuses to open and names
 *     the file, the offset and the sequence number.
 *   - A failed sync is never retried. The store is then poisoned: reads go on, writes return
 *     TKV_POISONED until it is opened again. A full disk fails the one write with
 *     TKV_NO_SPACE, keeps reads and deletes, and heals by itself once there is room.
 *   - Deleted means deleted: no crash, compaction or restart brings an old value back, and
 *     both the disk space and the index memory are used again.
 *   - One process writes at a time. The second opener gets TKV_BUSY at once.
 *   - The data files stay within `space_factor` times the live bytes plus one data file: puts
 *     are slowed for that. Deletes are not, which take room at first; once the compactor has
 *     done its work the same holds after them. A compaction never needs more extra room than
 *     one data file.
 *
 * Conventions, true of every function here
 *
 *   - Functions return enum tkv_status; TKV_OK is 0. Nothing is printed, and nothing aborts
 *     or exits on bad input, a bad disk or a lack of memory.
 *   - `err` is the last argument and may be NULL. It is written only on failure.
 *   - Arguments named `ret_*` are written only on success, unless a comment says otherwise.
 *   - A struct tkv_slice borrows: it never owns the bytes it points at. Keys are 0 to
 *     TKV_KEY_SIZE_MAX bytes and values 0 to TKV_VALUE_SIZE_MAX, any bytes. An empty key is a
 *     key like any other; an empty value is distinct from an absent one.
 *   - Every function may be called from any thread at any time, except that tkv_close() must
 *     be the last call on its store, and that a batch, a pin and an iterator belong to one
 *     thread at a time. None may be called from a signal handler, and a thread must not be
 *     cancelled (pthread_cancel) inside one.
 *   - Copy a store's directory when it is closed, or from a snapshot of the file system, which
 *     is what a power cut leaves. File by file under an open store it is no store.
 *   - After fork() the child must not use the store: every call on it returns TKV_FORKED,
 *     and tkv_close() in the child only frees memory. Nor may it read a value that is pinned:
 *     the parent may have let the file go.
 *   - Sizes are bytes. Times are milliseconds; instants count from 1970-01-01 UTC.
 */
#ifndef TINYKV_H
#define TINYKV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TKV_API        __attribute__((visibility("default")))
#define TKV_MUST_CHECK __attribute__((warn_unused_result))
#else
#define TKV_API
#define TKV_MUST_CHECK
#endif

#define TKV_VERSION_MAJOR 0
#define TKV_VERSION_MINOR 1
#define TKV_VERSION_PATCH 0

/* Where a quarter of `wal_size_max` is less: that, without 96 bytes. */
#define TKV_KEY_SIZE_MAX   65535u
#define TKV_VALUE_SIZE_MAX (512u * 1024 * 1024)

/* "0.1.0" */
TKV_API const char *tkv_version(void);

/* What this build is made of, for bug reports: "tinykv 0.1.0; checksums and zlib streams by
 * libdeflate 1.14; index by uthash, hashed with XXH3; format 1". Static text. */
TKV_API const char *tkv_build_info(void);

/* ---- Results ------------------------------------------------------------------------- */

enum tkv_status {
    TKV_OK = 0,
    TKV_NOT_FOUND, /* no such key, or the end of an iteration; not a failure */
    TKV_INVALID,   /* an argument or option is out of range; the message names it */
    TKV_TOO_BIG,   /* a key, a value or a batch above its limit, or a buffer too small */
    TKV_NO_MEMORY, /* nothing was changed */
    TKV_NO_SPACE,  /* the disk is full: this write was not done, reads and deletes go on */
    TKV_IO,        /* the operating system refused; os_errno says why */
    TKV_CORRUPT,   /* bytes on disk are not what was written; file and offset say where */
    TKV_BUSY,      /* another process or another handle of this one has the store open */
    TKV_READ_ONLY, /* the store was opened read-only */
    TKV_POISONED,  /* an earlier sync failed: reads only, until the store is opened again */
    TKV_FORKED,    /* this handle belongs to the parent process */
    TKV_UNSUPPORTED /* the files have a newer format, or the file system is not supported */
};

/* "not found" for TKV_NOT_FOUND, and so on; "unknown status" for any other number. */
TKV_API const char *tkv_status_text(enum tkv_status status);

/* The detail of one failure. It lives on the caller's stack, so threads do not share it. */
struct tkv_error {
    enum tkv_status status;
    int os_errno;      /* 0 when the operating system was not involved */
    char file[32];     /* the store's file it is about, such as "wal.log"; or "" */
    uint64_t offset;   /* where in that file; meaningful only with TKV_CORRUPT */
    uint64_t seq;      /* the sequence number there, 0 when unknown */
    char message[256]; /* one lower-case sentence without a full stop */
};

/* ---- Slices -------------------------------------------------------------------------- */

struct tkv_slice {
    const void *data; /* may be NULL when size is 0 */
    size_t size;
};

static inline struct tkv_slice tkv_bytes(const void *data, size_t size)
{
    struct tkv_slice slice;

    slice.data = data;
    slice.size = size;
    return slice;
}

/* The bytes of a C string without its terminator. */
static inline struct tkv_slice tkv_text(const char *text)
{
    return tkv_bytes(text, strlen(text));
}

/* ---- Events -------------------------------------------------------------------------- */

enum tkv_event_kind {
    TKV_EVENT_OPENED = 1,        /* count: keys; bytes: on disk; micros: time to open */
    TKV_EVENT_RECOVERED,         /* count: records replayed; bytes: of the log */
    TKV_EVENT_TAIL_CUT,          /* file 0 is wal.log; bytes: cut and put into quarantine */
    TKV_EVENT_ROTATED,           /* file: the new active data file */
    TKV_EVENT_CHECKPOINTED,      /* bytes: of the log released; micros */
    TKV_EVENT_COMPACTION_PICKED, /* file: the input; bytes: its size */
    TKV_EVENT_COMPACTION_COPIED, /* file: the input; count, bytes: copied; micros */
    TKV_EVENT_COMPACTION_INSTALLED, /* file: the input; count: moved; bytes: reclaimed */
    TKV_EVENT_FILE_REMOVED,         /* file; bytes: given back */
    TKV_EVENT_DISK_FULL, /* background work found no room; it tries again later */
    TKV_EVENT_CORRUPTION, /* file: a data file in which compaction met damage, or that it could
                             not read: status says which; or, with options.damage, a gap: file
                             (0 is wal.log), bytes */
    TKV_EVENT_POISONED    /* status: why writes have stopped */
};

struct tkv_event {
    enum tkv_event_kind kind;
    enum tkv_status status; /* TKV_OK unless the event is about a failure */
    uint64_t file;          /* number of a data file, 0 for none */
    uint64_t count;
    uint64_t bytes;
    uint64_t micros;
};

/* Called from whichever thread does the work. It must return soon and must not call back
 * into the store. */
typedef void tkv_event_fn(void *context, const struct tkv_event *event);

/* "compaction picked" for TKV_EVENT_COMPACTION_PICKED, and so on. */
TKV_API const char *tkv_event_text(enum tkv_event_kind kind);

/* ---- Options ------------------------------------------------------------------------- */

enum tkv_durability { TKV_DURABILITY_ALWAYS, TKV_DURABILITY_INTERVAL, TKV_DURABILITY_NONE };

enum tkv_read_mode {
    TKV_READ_MMAP, /* fastest; an unreadable sector under a mapping raises SIGBUS */
    TKV_READ_PREAD /* one system call more per read; an unreadable sector is TKV_IO */
};

/*
 * What to do with a store in which damage may hide writes. With any but REFUSE it must be opened
 * read-only, and the open report counts the gaps. A store whose MANIFEST is damaged, or whose
 * MANIFEST and log do not belong together, does not open in any way.
 */
enum tkv_damage {
    TKV_DAMAGE_REFUSE,  /* it does not open */
    TKV_DAMAGE_CERTAIN, /* it opens, and every answer is right: a key that a gap may have a
                           newer write of is TKV_CORRUPT, be it known or absent */
    TKV_DAMAGE_NEWEST /* it opens, and reads give the newest value that is left, which may be
                           one that was overwritten or deleted: for salvage */
};

/*
 * Always start from TKV_OPTIONS_DEFAULT. Every field holds its real default there, zero means
 * zero, and a value out of the range in brackets is refused with its name, value and range.
 */
struct tkv_options {
    size_t size; /* sizeof(struct tkv_options); of another header's it is refused */

    /* Behaviour. */
    enum tkv_durability durability;
    uint32_t interval_ms; /* INTERVAL: sync the log this often. [1, 3600000] */
    bool create; /* make directory and store when they are missing; not when read_only */
    /* Take no write lock, change nothing, work on read-only media. Without a file LOCK there is
     * nothing to lock: then nobody may open the directory for writing meanwhile. */
    bool read_only;
    enum tkv_damage damage;
    bool allow_remote; /* open on NFS and other network file systems all the same */
    enum tkv_read_mode read_mode;
    uint32_t compress_level;    /* zlib level for new values; 0 stores them as is. [0, 9] */
    uint32_t compress_size_min; /* do not try to compress smaller values. [0, 512 MiB] */

    /* Space and speed; most callers leave these alone. */
    uint64_t data_file_size_min; /* data files rotate at this size ... [64 KiB, 512 MiB] */
    uint64_t data_file_size_max; /* ... and at live/256 in large stores. [min, 512 MiB];
                                    neither at more than a sixteenth of the disk, unless one
                                    commit is longer */
    uint64_t compact_size_min;   /* no compaction while all data is smaller. [0, 2^63) */
    double space_factor; /* compact so that disk use stays below this x live. [1.05, 10] */
    uint64_t wal_size_max; /* cap of wal.log, which grows on demand from 1 MiB or the cap,
                              whichever is less; tkv_close() gives back what is above 1 MiB
                              and above an eighth of the cap. Values above a quarter of the
                              cap are stored beside the log. [64 KiB, 16 GiB; 512 MiB with
                              pointers of 32 bits] */
    /* Size the index for so many keys at once; 0 does not. [0, 2^40] */
    uint64_t expected_keys;
    /* ALWAYS, Linux: for so long after a group of one or few writers went to the device, keep a
     * processor awake with a thread that runs where nobody else in its control group wants to
     * (SCHED_IDLE). Commits return sooner where processors wake slowly, as in many virtual
     * machines. It costs up to one processor: of the group's quota, and beside other groups
     * like any thread. 200 is a good value, 0 does not. Needs `background`. [0, 10000] */
    uint64_t idle_poll_us;
    /* False: only tkv_compact() compacts, and without threads only it and tkv_stats() drop
     * keys whose time has come from the index; they are absent for reads all the same. */
    bool auto_compact;
    bool background; /* false: no threads; the calls themselves do the upkeep */

    /* Seeing inside. */
    tkv_event_fn *on_event; /* NULL: none */
    void *event_context;
};

#define TKV_OPTIONS_DEFAULT                                                           \
    {                                                                                 \
        sizeof(struct tkv_options), TKV_DURABILITY_ALWAYS, 1000, true, false,         \
            TKV_DAMAGE_REFUSE, false, TKV_READ_MMAP, 0, 64, 5u * 1000 * 1000,         \
            512u * 1024 * 1024, 5u * 1000 * 1000, 1.4, 64u * 1024 * 1024, 0, 0, true, \
            true, NULL, NULL                                                          \
    }

/* ---- Open and close ------------------------------------------------------------------ */

struct tkv_store;

/* What opening found and did. */
struct tkv_open_report {
    bool created;              /* the store did not exist before */
    bool clean;                /* it had been closed properly: nothing was replayed */
    uint64_t groups_replayed;  /* commit groups read from wal.log */
    uint64_t records_replayed; /* records in them */
    uint64_t bytes_replayed;
    uint64_t bytes_cut;  /* of an unacknowledged tail, now in quarantine/ unless read_only,
                            which keeps the 16 newest and 64 MiB of older ones; 0: none */
    char cut_reason[64]; /* "" when nothing was cut */
    uint64_t seq_last;   /* of the newest record */
    uint64_t keys;       /* live keys */
    uint64_t data_files; /* opened */
    uint64_t hints_used; /* data files loaded from their hint file */
    uint64_t hints_rebuilt; /* files read in full: the hint was missing or bad */
    uint64_t gaps;          /* with options.damage: places that cannot be read ... */
    uint64_t gap_bytes;     /* ... and how much is in them, as far as known */
    uint64_t files_removed; /* leftovers of an interrupted compaction or creation */
    uint64_t micros;        /* spent in all */
};

/*
 * Open the store in `directory`. Everything recovered from the log is durable before this
 * returns, unless it is read-only. `ret_report` may be NULL; it is also filled in when opening
 * fails, as far as it got. Fails with TKV_BUSY when the store is open elsewhere, TKV_CORRUPT
 * when acknowledged bytes are damaged (nothing is changed then), TKV_NOT_FOUND when there is
 * no store and `create` is false, TKV_UNSUPPORTED for a newer format or a network file system,
 * TKV_INVALID for an option out of range, TKV_IO, TKV_NO_SPACE (the store can still be read, and
 * opens once there is room) and TKV_NO_MEMORY.
 */
TKV_API enum tkv_status tkv_open(const char *directory, const struct tkv_options *options,
                                 struct tkv_store **ret_store,
                                 struct tkv_open_report *ret_report,
                                 struct tkv_error *err) TKV_MUST_CHECK;

/*
 * Stop the threads, checkpoint, release the lock and free the store, whatever is returned.
 * Every pin and iterator must have been released before. A failure says that the last
 * checkpoint did not succeed; what was acknowledged as durable is still in the log. NULL is
 * allowed.
 */
TKV_API enum tkv_status tkv_close(struct tkv_store *store, struct tkv_error *err);

/* ---- Single keys --------------------------------------------------------------------- */

/* Set `key` to `value`. On TKV_IO the outcome is unknown until the store is opened again
 * (the write is there whole or not at all); on every other failure nothing has changed. */
TKV_API enum tkv_status tkv_put(struct tkv_store *store, struct tkv_slice key,
                                struct tkv_slice value,
                                struct tkv_error *err) TKV_MUST_CHECK;

/* The same, and the key vanishes at `expires_at_ms` (milliseconds since 1970 UTC, above 0 and
 * below 2^63; an instant in the past makes the key absent at once). */
TKV_API enum tkv_status tkv_put_expiring(struct tkv_store *store, struct tkv_slice key,
                                         struct tkv_slice value, uint64_t expires_at_ms,
                                         struct tkv_error *err) TKV_MUST_CHECK;

/* Copy the value into `buffer`. *ret_size is the value's size; it is also set when the value
 * does not fit, which is TKV_TOO_BIG and leaves the buffer alone. TKV_NOT_FOUND, TKV_CORRUPT
 * and TKV_IO are about this key only. */
TKV_API enum tkv_status tkv_get(struct tkv_store *store, struct tkv_slice key, void *buffer,
                                size_t buffer_size, size_t *ret_size,
                                struct tkv_error *err) TKV_MUST_CHECK;

/* The value in memory of its own, to be given back with tkv_free(). It is never NULL, and a
 * zero byte that does not count follows it. */
TKV_API enum tkv_status tkv_get_copy(struct tkv_store *store, struct tkv_slice key,
                                     void **ret_value, size_t *ret_size,
                                     struct tkv_error *err) TKV_MUST_CHECK;

/* Give back what tkv_get_copy() returned. NULL is allowed. */
TKV_API void tkv_free(void *value);

/* A value that is read where it lies. Release each with tkv_unpin(). */
struct tkv_pin {
    struct tkv_slice value;
    uint64_t expires_at_ms; /* 0: never */
    void *holds[2];         /* the library's */
};

/*
 * Lend the value without copying it: from the mapped data file or the memory of the active
 * one (compressed values, values stored beside the log and TKV_READ_PREAD get a private
 * copy). It stays as it is, whatever is written meanwhile; a pin keeps the disk space of one
 * data file, so release it soon.
 */
TKV_API enum tkv_status tkv_get_pinned(struct tkv_store *store, struct tkv_slice key,
                                       struct tkv_pin *ret_pin,
                                       struct tkv_error *err) TKV_MUST_CHECK;

/* Release a pin and make it empty. Safe on an empty one: {0}. */
TKV_API void tkv_unpin(struct tkv_pin *pin);

/*
 * Look up `count` keys together, which is faster than one by one. For each i, statuses[i] is
 * what tkv_get_pinned() would have returned, and pins[i] is the value or empty. The clock is
 * asked once, but a key whose time comes during the call may be gone already. Returns TKV_OK
 * when every key was found or is absent, else the first other status. A key that is refused
 * (TKV_INVALID, TKV_TOO_BIG) and TKV_FORKED come before the first look: `pins` and `statuses`
 * are left alone then.
 */
TKV_API enum tkv_status tkv_multi_get(struct tkv_store *store, const struct tkv_slice *keys,
                                      size_t count, struct tkv_pin *pins,
                                      enum tkv_status *statuses,
                                      struct tkv_error *err) TKV_MUST_CHECK;

/* TKV_OK or TKV_NOT_FOUND. Looks at the index only and reads nothing. */
TKV_API enum tkv_status tkv_exists(struct tkv_store *store, struct tkv_slice key,
                                   struct tkv_error *err) TKV_MUST_CHECK;

/* Delete `key`. *ret_existed (may be NULL) says whether it was there; deleting an absent key
 * succeeds and writes nothing. Failures as for tkv_put(); but of a full disk puts leave as much
 * as two data files take, the longest, and at most an eighth, to deletes and compactions. A
 * delete that finds no more than a compaction needs waits for some of them, if `auto_compact`
 * is set, which can take seconds, and is refused only where those bring nothing, as where
 * others have filled the disk. */
TKV_API enum tkv_status tkv_delete(struct tkv_store *store, struct tkv_slice key,
                                   bool *ret_existed, struct tkv_error *err) TKV_MUST_CHECK;

/* ---- Batches ------------------------------------------------------------------------- */

/* A list of writes that take effect together: after any crash all of them are there or none.
 * Later ones win over earlier ones on the same key. Independent of any store until written. */
struct tkv_batch;

TKV_API enum tkv_status tkv_batch_new(struct tkv_batch **ret_batch,
                                      struct tkv_error *err) TKV_MUST_CHECK;
TKV_API void tkv_batch_free(struct tkv_batch *batch); /* NULL is allowed */

/* Key and value are copied. A failure leaves the batch as it was. */
TKV_API enum tkv_status tkv_batch_put(struct tkv_batch *batch, struct tkv_slice key,
                                      struct tkv_slice value,
                                      struct tkv_error *err) TKV_MUST_CHECK;
TKV_API enum tkv_status tkv_batch_put_expiring(struct tkv_batch *batch,
                                               struct tkv_slice key, struct tkv_slice value,
                                               uint64_t expires_at_ms,
                                               struct tkv_error *err) TKV_MUST_CHECK;
TKV_API enum tkv_status tkv_batch_delete(struct tkv_batch *batch, struct tkv_slice key,
                                         struct tkv_error *err) TKV_MUST_CHECK;
TKV_API size_t tkv_batch_count(const struct tkv_batch *batch);
TKV_API size_t tkv_batch_bytes(const struct tkv_batch *batch); /* records, uncompressed */
TKV_API void tkv_batch_clear(struct tkv_batch *batch);         /* empty it for reuse */

/* Commit the batch, which stays as it is and may be written again. TKV_TOO_BIG when its
 * records, as the log takes them, exceed a quarter of `wal_size_max` or 1 GiB: compressed, if
 * the options say so, and without the values that are stored beside the log. Other failures as
 * for tkv_put(), or, if it has deletes only, as for tkv_delete(). */
TKV_API enum tkv_status tkv_write(struct tkv_store *store, const struct tkv_batch *batch,
                                  struct tkv_error *err) TKV_MUST_CHECK;

/* ---- Iteration ----------------------------------------------------------------------- */

/*
 * Every live key in no particular order, beside any writes and compactions. A key that is
 * live from begin to end is returned exactly once, with the value it has at that moment; one
 * that is written or deleted meanwhile may be returned or not, and never as a deleted or torn
 * record. Between two calls it keeps the disk space of one data file, like a pin.
 */
struct tkv_iterator;

struct tkv_entry {
    struct tkv_slice key;   /* both borrow from the iterator ... */
    struct tkv_slice value; /* ... until its next call */
    uint64_t expires_at_ms; /* 0: never */
};

TKV_API enum tkv_status tkv_iterator_new(struct tkv_store *store, bool keys_only,
                                         struct tkv_iterator **ret_iterator,
                                         struct tkv_error *err) TKV_MUST_CHECK;

/* TKV_NOT_FOUND at the end. With `keys_only` no value is read and entry.value is empty. After
 * TKV_CORRUPT or TKV_IO, which are about one key (ret_entry->key names it), the iteration can
 * go on. With TKV_DAMAGE_CERTAIN, when a gap may hide keys, TKV_CORRUPT without a key
 * (ret_entry->key.data is NULL) comes once before the end: these were perhaps not all. */
TKV_API enum tkv_status tkv_iterator_next(struct tkv_iterator *iterator,
                                          struct tkv_entry *ret_entry,
                                          struct tkv_error *err) TKV_MUST_CHECK;
TKV_API void tkv_iterator_free(struct tkv_iterator *iterator); /* NULL is allowed */

/* ---- Upkeep -------------------------------------------------------------------------- */

/* Everything acknowledged before this call is on disk when it returns, in every mode. TKV_IO
 * poisons the store. */
TKV_API enum tkv_status tkv_sync(struct tkv_store *store,
                                 struct tkv_error *err) TKV_MUST_CHECK;

/* Compact now until no data file has anything worth reclaiming. *ret_bytes_reclaimed may be
 * NULL. Writes and reads go on meanwhile. A file that turns out to be damaged is left as it is
 * (TKV_EVENT_CORRUPTION), and so is one for whose live records the disk has no room: no failures
 * of this call. A failure leaves the step that failed undone. */
TKV_API enum tkv_status tkv_compact(struct tkv_store *store, uint64_t *ret_bytes_reclaimed,
                                    struct tkv_error *err) TKV_MUST_CHECK;

/* Bring the data files up to date with the log and release the log's space. A failure leaves
 * the checkpoint before, and all that the log has; a failed sync poisons the store. */
TKV_API enum tkv_status tkv_checkpoint(struct tkv_store *store,
                                       struct tkv_error *err) TKV_MUST_CHECK;

struct tkv_stats {
    uint64_t keys;       /* live, not counting expired ones; where damage leaves gaps, those
                                that are known */
    uint64_t live_bytes; /* records that the index points at */
    uint64_t dead_bytes; /* the rest of the data files: overwritten, deleted, padding */
    uint64_t disk_bytes; /* all data files */
    uint64_t wal_bytes;  /* size of wal.log */
    uint64_t wal_used_bytes; /* of it, not yet released by a checkpoint; 0 when read-only */
    uint64_t data_files;
    uint64_t index_bytes;       /* memory of the index */
    double index_bytes_per_key; /* 0 in an empty store */
    uint64_t seq_last;          /* of the newest acknowledged write */

    /* Since the store was opened. */
    uint64_t puts, deletes, gets, gets_missing;
    uint64_t user_bytes_written; /* keys and values, as given */
    uint64_t wal_bytes_written;
    uint64_t data_bytes_written; /* to data files, compaction included */
    uint64_t fsyncs;             /* and synchronous writes */
    uint64_t groups;             /* commit groups */
    uint64_t group_records;      /* records in them; divide for the mean */
    uint64_t group_records_max;  /* the largest */
    uint64_t checkpoints;
    uint64_t compactions;
    uint64_t compaction_bytes_read, compaction_bytes_written, compaction_bytes_reclaimed;
    uint64_t last_compaction_at_ms, last_compaction_micros; /* 0 before the first */
    enum tkv_status poisoned; /* TKV_OK, or why writes have stopped */
    bool disk_full;           /* background work is waiting for space */
};

/* Counters. Keys whose time has come are dropped from the index first, so that they do not
 * count: work for each, and for values that are stored beside the log a read. */
TKV_API enum tkv_status tkv_stats(struct tkv_store *store, struct tkv_stats *ret_stats,
                                  struct tkv_error *err) TKV_MUST_CHECK;

struct tkv_file_stats {
    uint64_t number;          /* 7 is 0000000007.data */
    uint64_t size;            /* bytes, memory tail included */
    uint64_t live_bytes;      /* records that the index points at */
    uint64_t tombstone_bytes; /* deletes that may still hide an older value elsewhere */
    uint64_t live_records;
    uint64_t records;
    uint64_t seq_min, seq_max; /* 0 in an empty file */
    bool sealed;               /* false for the active file */
    bool compacted;            /* written by the compactor, not by puts */
    bool large_value;          /* holds one value too large for the log */
};

/* Fill at most `capacity` entries; *ret_count is how many data files there are. */
TKV_API enum tkv_status tkv_file_stats(struct tkv_store *store,
                                       struct tkv_file_stats *files, size_t capacity,
                                       size_t *ret_count,
                                       struct tkv_error *err) TKV_MUST_CHECK;

/* One finding of tkv_verify(). */
struct tkv_finding {
    enum tkv_status status; /* TKV_CORRUPT or TKV_IO */
    char file[32];
    uint64_t offset;
    uint64_t seq; /* 0 when unknown */
    char message[256];
};

/* Must not call into the store: files are held while it runs. */
typedef void tkv_finding_fn(void *context, const struct tkv_finding *finding);

struct tkv_verify_report {
    uint64_t files;
    uint64_t records; /* read and checked, dead ones included */
    uint64_t bytes;
    uint64_t keys; /* live keys read through the index */
    uint64_t findings;
};

/*
 * Read every byte of the data files and every live key, check them against each other and the
 * counters against a recount, and change nothing. Writes wait while the index is compared.
 * `on_finding` and `ret_report` may be NULL. Returns TKV_OK when there is nothing to tell,
 * TKV_CORRUPT when there are findings, and what failed when the reading could not be done;
 * *ret_report is written in all three cases.
 */
TKV_API enum tkv_status tkv_verify(struct tkv_store *store, tkv_finding_fn *on_finding,
                                   void *context, struct tkv_verify_report *ret_report,
                                   struct tkv_error *err) TKV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif /* TINYKV_H */
