/* SPDX-License-Identifier: MIT */
/*
 * store.h - one open store: what ties log, data files, index, manifest and compactor
 * together. Private to the files that implement tinykv.h.
 *
 * Locks, from the outermost to the innermost; docs/architecture.md has the whole order:
 *
 *   compact  one compaction at a time
 *   upkeep   whatever writes data files, the manifest or a log header: one at a time
 *   wal      (inside struct tkv_wal)
 *   apply    the active file, the file table, `applied`; in the relaxed modes it is the wal's
 *            lock as well, in mode ALWAYS it is taken without that
 *   shard    (inside struct tkv_index)
 */
#ifndef TKV_STORE_H
#define TKV_STORE_H

#include "datafile.h"
#include "epoch.h"
#include "error.h"
#include "idle_poll.h"
#include "index.h"
#include "lock.h"
#include "os.h"
#include "record.h"
#include "replay.h"
#include "wal.h"
#include "worker.h"

#define TKV_FLUSH_SIZE     (256u * 1024) /* look after the memory tail once so much is in it */
#define TKV_SLOT_COUNT     (TKV_PLACE_SLOT_MAX + 1u)
#define TKV_WAL_SIZE_FIRST (1024u * 1024)
#define TKV_FILE_SIZE_MIN  (64u * 1024) /* as an option */
#define TKV_DISK_SHARE     16u   /* no data file shall be more than this part of the disk */
#define TKV_REMOVED_MAX    8u    /* removed files that may wait for the flusher */
#define TKV_FETCH_SLOTS    1024u /* as many as an index line can name */

/* The compactor's output files that are open: for survivors.c. */
enum { TKV_OUTPUT_YOUNG, TKV_OUTPUT_OLD, TKV_OUTPUT_COUNT };

struct tkv_tombstones;

struct tkv_counters {
    _Atomic uint64_t puts, deletes, user_bytes_written, data_bytes_written, data_syncs;
    _Atomic uint64_t checkpoints;
    _Atomic uint64_t compactions, compaction_bytes_read, compaction_bytes_written,
        compaction_bytes_reclaimed, last_compaction_at_ms, last_compaction_micros;
};

struct tkv_store {
    /* Constant after opening. */
    struct tkv_os *os;
    struct tkv_options options;
    int dir, lock_fd;
    uint8_t uuid[16];
    const uint32_t *fork_guard; /* a page that reads as zero in a forked child; or NULL */
    struct tkv_index *index;
    struct tkv_epoch epoch;
    struct tkv_wal wal; /* not opened when read_only */

    /* Slot -> file; a reader loads it inside an epoch. Changed with `apply` held. */
    _Atomic(struct tkv_datafile *) *files;
    _Atomic uint32_t slots_used; /* no file has this slot or a higher one */

    _Atomic uint64_t live_bytes;    /* of all files */
    _Atomic uint64_t applied_bytes; /* that commits have appended; one writer at a time */
    _Atomic uint64_t copied_bytes;  /* that compactions have; likewise */
    _Atomic uint64_t copies_kept;   /* copied_bytes when the last compaction ended */
    _Atomic uint64_t other_bytes;   /* the files' sizes less both; below zero it wraps */
    _Atomic uint64_t file_count;
    _Atomic uint64_t seq_last; /* newest applied */

    struct tkv_mutex apply;
    /* Guarded by apply. */
    struct tkv_datafile *active; /* receives puts; NULL in a read-only store */
    uint64_t next_number;
    /* What the group being logged will append; of one that was not logged, stale. */
    size_t prepared;
    struct tkv_ring_place applied_end; /* what is before it is in the data files' tails */
    uint64_t applied_seq_next;
    uint32_t applied_chain;
    uint32_t slot_hint;

    struct tkv_mutex compact;
    /* Guarded by compact. */
    struct tkv_datafile *outputs[TKV_OUTPUT_COUNT]; /* receive survivors; or NULL */

    struct tkv_mutex upkeep;
    /* Guarded by upkeep. */
    struct tkv_checkpoint checkpoint; /* the last durable one */
    struct tkv_ring_place checkpoint_place;
    uint64_t manifest_epoch;
    uint64_t header_generation; /* of the last log header that is durable */
    bool dir_changed;           /* created files whose entries may not be durable yet */
    uint64_t marked;        /* log position that the last header block knew as durable */
    uint64_t checkpoint_us; /* when the last one was begun, monotonic */
    uint64_t growth_tried;  /* log position when the log was last to grow */

    uint64_t unknown_seq; /* gaps.c: a write up to this one may be missing; 0: none is */
    char gap_file[TKV_FILE_NAME_SIZE]; /* the first gap, for messages */
    uint64_t gap_offset;

    bool keeps_large;      /* some reference to a large value cannot be read */
    bool has_tombstones;   /* while data files are being loaded: some entry is a delete */
    atomic_bool has_large; /* some record refers to a value in a file of its own, or did */
    _Atomic int poisoned;  /* enum tkv_status */
    atomic_bool poison_told;
    atomic_bool disk_full;
    struct tkv_counters counters;

    /* Set when somebody has been asked, so that a hundred thousand puts wake a thread once. */
    atomic_bool flush_asked, reclaim_asked, retire_asked;
    atomic_bool puts_are_new; /* the last put that came alone was of a new key */
    /* At the last look, beyond what was flushed then: for puts, for deletes, which may take more,
     * and with what a compaction needs. */
    _Atomic uint64_t put_space_left, delete_space_left, last_space_left;
    _Atomic uint64_t promised_bytes; /* to large writes that are on their way */
    _Atomic uint64_t longest_file;   /* of records, that there was or may be */
    _Atomic uint64_t disk_bytes;     /* free or not; 0: not known */
    _Atomic uint64_t flushed_bytes;  /* of the applied ones, when the last flush began */
    _Atomic uint64_t flush_kept;     /* of those, still in memory; under `upkeep` */
    _Atomic uint64_t log_head;       /* log position applied */
    _Atomic uint64_t log_released;   /* log position of the last checkpoint */
    _Atomic uint64_t log_capacity;
    uint64_t log_bytes;              /* of wal.log when it was opened */
    _Atomic uint64_t reclaim_futile; /* garbage when there was nothing to gain; or 0 */
    _Atomic uint64_t pinned_bytes;   /* tombstones that are known to be needed */
    _Atomic uint64_t pace_debt_ns;   /* what writers owe for being ahead of the compactor */
    _Atomic uint64_t held_back_us;   /* when one was last held back for it, monotonic */
    _Atomic(struct tkv_datafile *) removed[TKV_REMOVED_MAX]; /* to be given back ... */
    struct tkv_mutex removing; /* ... by one thread at a time */

    struct tkv_worker flusher, compactor;
    struct tkv_idle_poll idle_poll;
    _Atomic uint64_t synced_us; /* INTERVAL: when the log was last synced */
    uint64_t idle_seq; /* newest write when the flusher last looked; the flusher's */
    atomic_bool flusher_sleeps; /* until woken: the next write must wake it */

    /* Where the bits of struct tkv_superseded lie, of the files in the first slots: for fetching
     * them, and nothing else, because they may be gone. */
    _Atomic uintptr_t superseded_at[TKV_FETCH_SLOTS];
};

/* ---- store.c --------------------------------------------------------------------- */

/* tkv_open() on another world: the tests' simulated disk. */
enum tkv_status tkv_open_on(struct tkv_os *os, const char *directory,
                            const struct tkv_options *options, struct tkv_store **ret_store,
                            struct tkv_open_report *ret_report,
                            struct tkv_error *err) TKV_COLD;

/* The first thing every public function does. */
enum tkv_status tkv_store_check(struct tkv_store *store, struct tkv_error *err);
/* The same for one that writes. */
enum tkv_status tkv_store_check_writable(struct tkv_store *store, struct tkv_error *err);

void tkv_store_emit(struct tkv_store *store, struct tkv_event event);
uint64_t tkv_store_now_ms(struct tkv_store *store);
uint64_t tkv_store_now_us(struct tkv_store *store);

/* Stop writing for good, because of `status`. */
void tkv_store_poison(struct tkv_store *store, enum tkv_status status);

/* ---- options.c ------------------------------------------------------------------- */

enum tkv_status tkv_options_check(const struct tkv_options *options, struct tkv_error *err);

/* ---- files.c: the table of data files -------------------------------------------- */

/* Enter a file into the table; TKV_TOO_BIG when it is full. With `apply` held. */
enum tkv_status tkv_files_add(struct tkv_store *store, struct tkv_datafile *file,
                              struct tkv_error *err);
/* Take out a file at which the index does not point any more, wait until no reader can see
 * it, and drop the table's reference. With `upkeep` held, without `apply`. */
void tkv_files_remove(struct tkv_store *store, struct tkv_datafile *file);
struct tkv_datafile *tkv_files_at(struct tkv_store *store, uint32_t slot);
/* The next file of the table from `*slot` on, which is moved behind it; NULL at the end. One
 * that enters meanwhile may be met or not: who has room for so many only, or must come to an
 * end while writers add some, goes by slots_used as it was at the beginning instead. */
struct tkv_datafile *tkv_files_next(struct tkv_store *store, uint32_t *slot);
struct tkv_datafile *tkv_files_find(struct tkv_store *store, uint64_t number);
/* Unlink its hint, or both. What cannot be unlinked now is a leftover that the next opening
 * removes. */
void tkv_files_unlink_hint(struct tkv_store *store, const struct tkv_datafile *file);
/* All of them, whose space is needed more. The next opening takes longer and writes them again.
 * With `upkeep` held. */
void tkv_files_unlink_hints(struct tkv_store *store) TKV_COLD;
/* What was unlinked may keep its space until the directory has been synced. With `upkeep` held. */
enum tkv_status tkv_files_sync_names(struct tkv_store *store,
                                     struct tkv_error *err) TKV_COLD;
void tkv_files_unlink(struct tkv_store *store, const struct tkv_datafile *file);
/* At which size the next data file rotates. */
uint64_t tkv_files_capacity(struct tkv_store *store);

/* Sum of all files' sizes, memory tails included. What every record adds to has one writer and
 * needs no locked instruction. */
static inline uint64_t tkv_files_disk_bytes(struct tkv_store *store)
{
    const uint64_t other =
        tkv_usage_get(&store->other_bytes); /* first: not less than zero */

    return other + tkv_usage_get(&store->applied_bytes) +
           tkv_usage_get(&store->copied_bytes);
}

/* The record at this location is not the latest of its key any more. */
void tkv_files_dead(struct tkv_store *store, const struct tkv_location *old);
/* Likewise, and a record of `size` bytes, which its file has counted, is. */
void tkv_files_replaced(struct tkv_store *store, const struct tkv_location *old,
                        uint32_t size);
/* Likewise because it expired: it may still hide older ones. */
void tkv_files_expired(struct tkv_store *store, const struct tkv_location *old);
void tkv_files_live(struct tkv_store *store, struct tkv_datafile *file, uint64_t size);
/* The record at this location is not the latest of its key, and will not be again: a compaction
 * drops it without asking the index. Not so if it expires: like a delete it may hide older ones.
 * tkv_files_dead(), tkv_files_replaced() and tkv_files_expired() do this too. With `apply` held,
 * or while a store is being opened. */
void tkv_files_superseded(struct tkv_store *store, const struct tkv_location *old);
/* The record at `guess`, a place or 0, is about to be superseded. */
static inline void tkv_files_fetch_superseded(struct tkv_store *store, uint64_t guess)
{
    const uint32_t slot = tkv_place_slot(guess);
    uintptr_t bits;

    if (guess == 0 || slot >= TKV_FETCH_SLOTS)
        return;
    bits = atomic_load_explicit(&store->superseded_at[slot], memory_order_relaxed);
    if (bits != 0)
        tkv_fetch_line_to_write(bits + tkv_superseded_byte(tkv_place_offset(guess)));
}

/* ---- apply.c: what the log's owner does ------------------------------------------ */

enum tkv_status tkv_apply_prepare(void *context, size_t payload_size,
                                  struct tkv_error *err);
void tkv_apply_group(void *context, const struct tkv_wal_applied *group);
/* Room for so many bytes in the active file, or in a new one. With `apply` held. */
enum tkv_status tkv_apply_reserve(struct tkv_store *store, size_t payload_size,
                                  struct tkv_error *err);
/* Seal the active file and begin another. With `apply` held. */
enum tkv_status tkv_apply_rotate(struct tkv_store *store, size_t need,
                                 struct tkv_error *err);
/* Index one record that lies at `offset` of `file`; true when its key was there before. */
bool tkv_apply_record(struct tkv_store *store, struct tkv_datafile *file, uint64_t offset,
                      const struct tkv_record *record, uint64_t hash);

/* ---- flush.c: memory tails to disk ------------------------------------------------- */

/* Its bytes come from the log; the compactor's and large values are synced by who writes
 * them. */
static inline bool tkv_flush_is_fed_by_log(const struct tkv_datafile *file)
{
    return file->file_class == TKV_FILE_FRESH;
}
/* Write a data file up to `target`. Where commits wait for the device it happens in steps of
 * TKV_FLUSH_SIZE, each but the last synced on its own: a commit finds no more than one of them
 * in front of it in the device's queue. With `upkeep` held. */
enum tkv_status tkv_flush_file(struct tkv_store *store, struct tkv_datafile *file,
                               uint64_t target, struct tkv_error *err);
/* What became of a sync; one that failed poisons: nobody knows what is on disk. */
enum tkv_status tkv_flush_note_sync(struct tkv_store *store, enum tkv_status status);
enum tkv_status tkv_flush_sync(struct tkv_store *store, struct tkv_datafile *file,
                               struct tkv_error *err);
/* Sync the directory if files were created, likewise. With `upkeep` held. */
enum tkv_status tkv_flush_directory(struct tkv_store *store, struct tkv_error *err);
/* Sync the log up to its head, likewise. */
enum tkv_status tkv_flush_log(struct tkv_store *store, struct tkv_error *err);
/* Write memory tails that have enough in them: TKV_FLUSH_SIZE, or a whole piece in the relaxed
 * modes while there is room. With `upkeep` held. */
enum tkv_status tkv_flush(struct tkv_store *store, struct tkv_error *err);
/* What is about to be synced, one file after the other, is on its way to the device at once: in
 * the relaxed modes, and while there is room. What cannot be written is written by who syncs;
 * fails only where the store is poisoned. With `upkeep` held. */
enum tkv_status tkv_flush_begin(struct tkv_store *store, struct tkv_error *err);

/* ---- checkpoint_state.c: what says what is durable -------------------------------- */

/* Write a log header that says: the durable sizes in the table belong to `store->checkpoint`.
 * Before it the manifest is replaced, if `renews_manifest` or where a header cannot say all
 * that has changed. With `upkeep` held. */
enum tkv_status tkv_checkpoint_write_header(struct tkv_store *store, bool clean,
                                            bool renews_manifest, struct tkv_error *err);
/* Replace the manifest: what the table holds now, without condemned files, at the checkpoint
 * as it stands; then write a log header that names it. With `upkeep` held. */
enum tkv_status tkv_checkpoint_manifest(struct tkv_store *store, struct tkv_error *err);
/* Repeat the last checkpoint in the other header block: what an opening says about the log's
 * new identity must survive damage to one of them. With `upkeep` held. */
enum tkv_status tkv_checkpoint_both_headers(struct tkv_store *store, struct tkv_error *err);
/* The log is empty and begins anew at `place`: both headers say so, and that the store was closed
 * properly. With `upkeep` held. */
enum tkv_status tkv_checkpoint_restarted(struct tkv_store *store,
                                         const struct tkv_ring_place *place,
                                         struct tkv_error *err);
/* Tell the next recovery what is durable by now, when the log is idle. With `upkeep` held. */
enum tkv_status tkv_checkpoint_mark(struct tkv_store *store, struct tkv_error *err);

/* ---- checkpoint.c: making it durable --------------------------------------------- */

/* With `upkeep` held. */
enum tkv_status tkv_checkpoint_locked(struct tkv_store *store, bool clean,
                                      struct tkv_error *err);
/* A checkpoint with a manifest of its own, for less than one after the other costs. With
 * `upkeep` held. */
enum tkv_status tkv_checkpoint_renewed(struct tkv_store *store, struct tkv_error *err);

/* ---- retire.c: from memory to disk for good ---------------------------------------- */

/* Write the hints of files that are full and durable, and free their memory. With `upkeep`
 * held, as the next. */
void tkv_retire(struct tkv_store *store);
/* For others than the flusher: have that do it, if there is one. */
void tkv_retire_soon(struct tkv_store *store);

/* ---- removed.c: what is left of removed files -------------------------------------- */

/* While the file still has its name. */
void tkv_removed_prepare(struct tkv_store *store, struct tkv_datafile *file) TKV_COLD;
/* Give a file back that is out of the table, or have the flusher do it. Takes over the table's
 * reference. */
void tkv_removed_add(struct tkv_store *store, struct tkv_datafile *file) TKV_COLD;
/* One step of the flusher's part of that. False: there is nothing to do. */
bool tkv_removed_step(struct tkv_store *store) TKV_COLD;
/* All of it, so that the room is there when this returns. */
void tkv_removed_finish(struct tkv_store *store) TKV_COLD;
/* The memory, the mappings and the descriptors, as fast as that goes. */
void tkv_removed_abandon(struct tkv_store *store) TKV_COLD;

/* ---- space.c: what is left of the disk, and for whom ------------------------------ */

/* Applied since the last flush began. */
static inline uint64_t tkv_space_unflushed(struct tkv_store *store)
{
    const uint64_t flushed =
        tkv_usage_get(&store->flushed_bytes); /* first: it is not more */

    return tkv_usage_get(&store->applied_bytes) - flushed;
}
/* That and what has been promised to writes that are on their way. */
static inline uint64_t tkv_space_wanted(struct tkv_store *store)
{
    const uint64_t promised =
        tkv_usage_get(&store->promised_bytes); /* first: applied it counts there */

    return promised + tkv_space_unflushed(store);
}
/* See how much is left, now that `flushed` of the unflushed bytes are on the disk. False when
 * what remains in memory does not fit beside the reserve, even without what removed files
 * occupied. With `upkeep` held. */
bool tkv_space_look(struct tkv_store *store, uint64_t flushed);
/* Look, and set or clear `disk_full`. With `upkeep` held. */
void tkv_space_note(struct tkv_store *store);
/* Set `disk_full` and tell it once. */
void tkv_space_exhausted(struct tkv_store *store);
/* Likewise if that is what `status` says; returns it. */
enum tkv_status tkv_space_note_failure(struct tkv_store *store, enum tkv_status status);
/* Would `bytes` more of anything but records leave the reserve alone? Removed files have given
 * back what they occupied before this says no. With `upkeep` held. */
bool tkv_space_permits(struct tkv_store *store, uint64_t bytes);
/* There is a file of records of so many bytes, or may be soon: the next look counts with its
 * like, until the store is opened again. False: there was a longer one. */
bool tkv_space_note_file(struct tkv_store *store, uint64_t bytes);
/* So much may a compaction write. With `upkeep` held. */
uint64_t tkv_space_for_compaction(struct tkv_store *store);
/* A delete of so many bytes has no room. */
bool tkv_space_is_short(struct tkv_store *store, uint64_t bytes);
/* So many will be taken: until the next look writes have that much less. With `upkeep` held. */
void tkv_space_take(struct tkv_store *store, uint64_t bytes);

/* ---- promise.c: space for one write ------------------------------------------------ */

#define TKV_PROMISE_SIZE_MIN 4096u

/* A full disk refuses what needs more of it, without touching the log: puts at once, */
enum tkv_status tkv_promise_puts(struct tkv_store *store, uint64_t bytes,
                                 struct tkv_error *err);
/* deletes only where they would take what a compaction needs, and after some were tried. */
enum tkv_status tkv_promise_deletes(struct tkv_store *store, uint64_t bytes,
                                    struct tkv_error *err);
/* Of that, for one that makes room without a compaction. */
bool tkv_promise_last(struct tkv_store *store, uint64_t bytes);
/* The write that was promised so much has been applied, or has failed. `is_on_disk`: some of it
 * has gone to files beside the log. */
void tkv_promise_settle_large(struct tkv_store *store, uint64_t bytes, bool is_on_disk);
static inline void tkv_promise_settle(struct tkv_store *store, uint64_t bytes,
                                      bool is_on_disk)
{
    if (bytes >= TKV_PROMISE_SIZE_MIN || is_on_disk)
        tkv_promise_settle_large(store, bytes, is_on_disk);
}

/* ---- log_room.c: room in the log ------------------------------------------------- */

/* The ring is half used: time for a checkpoint. */
bool tkv_log_room_is_low(struct tkv_store *store);
/* Let a busy log grow. Takes `upkeep`. */
void tkv_log_room_grow(struct tkv_store *store);
/* Likewise, and checkpoint if one is due. */
enum tkv_status tkv_log_room_maintain(struct tkv_store *store, struct tkv_error *err);
/* Of a store that is being closed, after its last checkpoint: give back what the log has beyond
 * an eighth of its cap. Failing to is harmless, but for the store being poisoned perhaps. With
 * `upkeep` held. */
void tkv_log_room_shrink(struct tkv_store *store);
/* The log's owner: there must be room for `extent` bytes. Takes `upkeep`. */
enum tkv_status tkv_log_room_make(void *context, uint64_t extent, struct tkv_error *err);

/* ---- load.c: data files -> index ------------------------------------------------- */

/* Open a file that the manifest lists, or a record refers to, and enter it into the table. */
enum tkv_status tkv_load_open(struct tkv_store *store,
                              const struct tkv_manifest_file *entry,
                              struct tkv_open_report *report, struct tkv_error *err);
/* Index every record of a file that was just opened, from its hint or from the file itself. */
enum tkv_status tkv_load_file(struct tkv_store *store, struct tkv_datafile *file,
                              struct tkv_open_report *report, struct tkv_error *err);
/* Write the hint of a file whose records are all durable. A failure costs time at the next
 * opening, nothing else. */
void tkv_load_write_hint(struct tkv_store *store, struct tkv_datafile *file);

/* ---- gaps.c: what of a damaged store cannot be read ------------------------------- */

/* Opening goes on although something failed with `status`. */
bool tkv_gaps_accept(const struct tkv_store *store, enum tkv_status status);
/* The log breaks at `offset`, or cannot be read at all. */
void tkv_gaps_note_log(struct tkv_store *store, struct tkv_open_report *report,
                       uint64_t offset, uint64_t bytes) TKV_COLD;
/* From `offset` on nobody knows which records are in the file; the checkpoint of the store is
 * below `seq_next`. */
void tkv_gaps_note_body(struct tkv_store *store, struct tkv_open_report *report,
                        const struct tkv_datafile *file, uint64_t offset,
                        uint64_t seq_next) TKV_COLD;
/* A file that cannot be opened: its hint may know its keys. */
enum tkv_status tkv_gaps_enter_lost(struct tkv_store *store,
                                    const struct tkv_manifest_file *entry,
                                    struct tkv_open_report *report,
                                    struct tkv_error *err) TKV_COLD;
/* May the newest write of a key be in a gap? `location` is that of its newest known record, or
 * NULL. TKV_CORRUPT then, in a store where answers are certain. */
enum tkv_status tkv_gaps_check(struct tkv_store *store, const struct tkv_location *location,
                               struct tkv_error *err);

/* ---- create.c: a new store ------------------------------------------------------- */

/* Without a manifest there may be the remains of a creation that was interrupted: a log in
 * which nothing was ever written. Anything more is a store that has lost its manifest. */
enum tkv_status tkv_create_check_remains(struct tkv_store *store, size_t data_count,
                                         bool has_wal, struct tkv_error *err);
enum tkv_status tkv_create_store(struct tkv_store *store, struct tkv_open_report *report,
                                 struct tkv_error *err);
/* A random number that is not zero. */
enum tkv_status tkv_create_salt(struct tkv_store *store, uint64_t *ret_salt,
                                struct tkv_error *err);

/* ---- quarantine.c ---------------------------------------------------------------- */

/* Keep what is cut, with a note that says where it was. Doing it again after a crash writes
 * the same two files again. */
enum tkv_status tkv_quarantine_tail(struct tkv_store *store,
                                    const struct tkv_replay *replay, const uint8_t *log,
                                    struct tkv_error *err) TKV_COLD;

/* ---- recover.c ------------------------------------------------------------------- */

enum tkv_status tkv_recover(struct tkv_store *store, struct tkv_open_report *report,
                            struct tkv_error *err);

/* ---- read.c ---------------------------------------------------------------------- */

/* A verified record where it lies; `bytes` is NULL unless it had to be read into memory of
 * its own, which the caller frees. */
struct tkv_found {
    struct tkv_record record;
    struct tkv_datafile *file; /* no reference: valid inside the epoch */
    uint64_t offset;
    uint8_t *bytes;
};

enum tkv_status tkv_read_record(struct tkv_store *store,
                                const struct tkv_location *location, struct tkv_slice key,
                                struct tkv_found *ret_found, struct tkv_error *err);

/* ---- write.c: what batches and reads check too ----------------------------------- */

enum tkv_status tkv_fail_key(struct tkv_slice key, struct tkv_error *err) TKV_COLD;
static inline enum tkv_status tkv_check_key(struct tkv_slice key, struct tkv_error *err)
{
    return key.size <= TKV_KEY_SIZE_MAX && (key.data != NULL || key.size == 0)
               ? TKV_OK
               : tkv_fail_key(key, err);
}

enum tkv_status tkv_write_check(struct tkv_slice key, struct tkv_slice value,
                                struct tkv_error *err);
enum tkv_status tkv_write_check_expiry(uint64_t expires_at_ms, struct tkv_error *err);

/* ---- upkeep.c: the background threads, and the same work done inline ------------- */

/* Cannot fail: a store that gets no threads works as with `background` off. */
void tkv_upkeep_start(struct tkv_store *store);
void tkv_upkeep_stop(struct tkv_store *store);
/* Drop keys whose time has come from the index. */
void tkv_upkeep_expire(struct tkv_store *store);
/* After a write: wake the threads that have something to do, or do it. */
void tkv_upkeep_after_write(struct tkv_store *store);
/* Write memory tails now and look how much space is left. Takes `upkeep`. */
void tkv_upkeep_flush(struct tkv_store *store);
/* For deletes of so many bytes: one compaction in the caller's time. False: there is nothing to
 * gain, and if they have no room the hints were given up instead. Takes `compact`. */
bool tkv_upkeep_make_room(struct tkv_store *store, uint64_t bytes) TKV_COLD;
/* struct tkv_wal_owner.before_wait: keep a processor awake, if the store does that. */
void tkv_upkeep_before_wait(void *context, unsigned writers);

/* ---- pace.c: writers and the compactor ------------------------------------------- */

/* Before `bytes` are written: wait a little when the compactor is behind. */
void tkv_pace_writer(struct tkv_store *store, uint64_t bytes);
/* The compactor's token bucket: account for `bytes` copied, and sleep when that was too fast. */
void tkv_pace_copy(struct tkv_store *store, uint64_t *bytes_copied, uint64_t *from_us,
                   size_t bytes);

/* ---- judge.c: which deletes are still needed ------------------------------------- */

/* Decide for all of a file's deletes. Returns the number of a file that some of them hide
 * records of, or 0. With `compact` held. */
uint64_t tkv_judge_tombstones(struct tkv_store *store, const struct tkv_datafile *source,
                              struct tkv_tombstones *tombstones);

/* ---- reclaim.c: one step of the compactor ---------------------------------------- */

/* Compact one file, or remove dead ones. *ret_did says whether there was anything to do.
 * Takes `upkeep`. TKV_RECLAIM_AUTOMATIC: where it pays; else every file with a number below
 * `below` that is worth a block. */
#define TKV_RECLAIM_AUTOMATIC UINT64_MAX
enum tkv_status tkv_reclaim_step(struct tkv_store *store, uint64_t below, bool *ret_did,
                                 uint64_t *ret_reclaimed, struct tkv_error *err);

#endif
