/* SPDX-License-Identifier: MIT */
/*
 * order_private.h - what the files of the order verifier share:
 *
 *   order_memory.c      memory that no test's failing malloc() reaches
 *   order_files.c       files, names and descriptors, and which of their bytes are durable
 *   order_log.c         rules about groups in the ring
 *   order_checkpoint.c  rules about manifests and log headers
 *   order_cover.c       are the records that a checkpoint releases in data files?
 *   order_verifier.c    the verifier, and what happens before and after every call
 *   order_names.c       calls on directories, and opening and closing files
 *   order_bytes.c       calls that read, write, cut and sync
 *   order_everywhere.c  every store that a test opens
 */
#ifndef TKV_ORDER_PRIVATE_H
#define TKV_ORDER_PRIVATE_H

#include "order_verifier.h"

#include "group.h"

#include <pthread.h>

#define ORDER_NAME_SIZE 40u

void *order_grow(void *memory, size_t *capacity, size_t count, size_t item_size);
void *order_zeroed(size_t size);
void order_release(void *memory);

struct order_range {
    uint64_t from, to;
    uint64_t stamp; /* when it was last written */
};

struct order_bytes {
    uint8_t *data;
    size_t size, capacity;
};

struct order_file {
    char name[ORDER_NAME_SIZE];
    bool in_root;         /* else in a directory below, of which only little is checked */
    bool is_gone;         /* unlinked, or replaced by a rename */
    uint64_t named_stamp; /* when it got its name */
    unsigned handles, syncs_running;
    /* A sync, or a write that had to be durable, failed. Whoever saw it must stop; others may
     * be on their way. */
    bool has_failed;
    pthread_t failed_thread;
    bool was_let_go; /* the last descriptor was closed before its bytes were synced */

    uint64_t size, synced_size, allocated_size;
    struct order_range *dirty; /* written and not synced, in no particular order */
    size_t dirty_count, dirty_capacity;
    uint64_t rest_offset; /* where a short write will be continued, and how much is left */
    size_t rest_size;

    /* MANIFEST.tmp and MANIFEST: everything; wal.log: as it was read; data files that puts
     * write: what lies behind `base`. */
    struct order_bytes content;
    uint64_t base;
    uint8_t file_class; /* of a data file; 0 unknown */
    uint64_t number;    /* of a data file; else 0 */
    uint64_t claimed;   /* bytes that a checkpoint relies on */
    bool claimed_sealed;
};

struct order_handle {
    struct order_file *file; /* or NULL: a directory, or not open */
    bool is_directory, is_root;
    unsigned flags;
    bool creates; /* opened with TRUNCATE: makes the file's first content */
    uint64_t directory_synced_stamp;
};

struct order_group {
    uint64_t position, offset, extent;
    uint64_t seq, count;
    bool done; /* the call that writes it has returned */
};

struct order_seqs {
    uint64_t first, next;
};

struct order_manifest {
    bool is_known, is_durable;
    uint64_t renamed_stamp;
    uint64_t epoch, generation, next_number;
    struct tkv_checkpoint checkpoint;
    struct tkv_manifest_file *files;
    size_t file_count, file_capacity;
};

struct order_header {
    bool is_known, is_durable;
    uint64_t generation, salt, position, epoch, ring_end;
};

struct order_state {
    struct tkv_os *below;
    pthread_mutex_t mutex;
    uint64_t stamp; /* counts what happens */

    struct order_file **files;
    size_t file_count, file_capacity;
    struct order_handle *handles; /* by descriptor */
    size_t handle_count, handle_capacity;

    uint64_t names_durable; /* names that were there before this stamp are durable */
    bool root_sync_failed;
    pthread_t root_failed_thread;

    struct order_manifest manifest; /* the newest */
    struct order_manifest
        previous; /* before it; listed in it is what a crash may bring back */
    struct order_header headers[2];
    uint8_t uuid[16];
    bool has_begun; /* what this opening found in the log has been looked at */

    /* Groups that a checkpoint has not released, oldest first; a queue in an array. */
    struct order_group *groups;
    size_t group_first, group_end, group_capacity;
    size_t covered_end; /* groups before it lie in durable bytes of data files */
    size_t durable_end; /* groups before it are durable */
    uint64_t popped, records_durable, records_acknowledged;
    uint64_t position_next, seq_next, released;

    /* Records found in durable bytes of data files, ascending, and not yet needed. */
    struct order_seqs *seqs;
    size_t seq_first, seq_end, seq_capacity;

    /* The call that is being looked at, for messages. */
    const char *call_name, *call_file;
    uint64_t call_number, call_offset, call_size;
    char message[400]; /* of the first rule that it breaks; "" for none */
};

/* ---- order_files.c ------------------------------------------------------------------- */

struct order_file *order_file_find(struct order_state *s, const char *name);
struct order_file *order_file_number(struct order_state *s, uint64_t number);
/* The one with that name in the store's directory, made when it is new. */
struct order_file *order_file_named(struct order_state *s, const char *name, bool in_root,
                                    bool is_new);
void order_file_gone(struct order_state *s, struct order_file *file);
struct order_handle *order_handle_of(struct order_state *s, int fd);
void order_handle_open(struct order_state *s, int fd, struct order_handle handle);
void order_handle_close(struct order_state *s, int fd);
bool order_is_name_durable(const struct order_state *s, const struct order_file *file);
bool order_is_clean(const struct order_file *file, uint64_t from, uint64_t to);
void order_mark_dirty(struct order_state *s, struct order_file *file, uint64_t from,
                      uint64_t to);
void order_mark_clean(struct order_file *file, uint64_t from, uint64_t to);
/* A sync that began at `stamp`, when the file had `size` bytes, has succeeded. */
void order_mark_synced(struct order_file *file, uint64_t stamp, uint64_t size);
void order_keep_bytes(struct order_file *file, const void *data, size_t size,
                      uint64_t offset);

/* ---- Rules: each leaves a message in the state when it is broken --------------------- */

__attribute__((format(printf, 2, 3))) void order_break(struct order_state *s,
                                                       const char *format, ...);

/* order_log.c: groups. A write of one is checked, entered, and done. */
void order_log_check(struct order_state *s, const struct order_file *log,
                     const uint8_t *data, size_t size, uint64_t offset);
void order_log_enter(struct order_state *s, const struct order_file *log,
                     const uint8_t *data, size_t size, uint64_t offset);
void order_log_done(struct order_state *s, bool failed);
/* One that was found when the store was opened. */
void order_log_found(struct order_state *s, struct order_group group);
/* Look what has become durable by now. */
void order_log_advance(struct order_state *s, const struct order_file *log);
void order_log_release(struct order_state *s, uint64_t position);
bool order_log_is_durable_to(const struct order_state *s, uint64_t position);

/* order_checkpoint.c: manifests and log headers. */
/* Before the first change: what recovery begins with, as far as it has been read. */
void order_checkpoint_begin(struct order_state *s);
void order_checkpoint_manifest_found(struct order_state *s, const struct order_file *file);
void order_checkpoint_manifest_check(struct order_state *s, const struct order_file *file);
void order_checkpoint_manifest_note(struct order_state *s, const struct order_file *file);
void order_checkpoint_header_check(struct order_state *s, const struct order_file *log,
                                   const uint8_t *block, uint64_t offset);
void order_checkpoint_header_note(struct order_state *s, const uint8_t *block,
                                  uint64_t offset);
void order_checkpoint_advance(struct order_state *s, const struct order_file *log);
bool order_checkpoint_lists(const struct order_state *s, uint64_t number);

/* order_cover.c: are the records that a checkpoint releases in data files? */
/* What a durable size newly covers of a file that puts write. */
void order_cover_file(struct order_state *s, struct order_file *file, uint64_t size);
void order_cover_check(struct order_state *s, uint64_t position);

/* ---- order_verifier.c: around a call --------------------------------------------------- */

struct order_verifier *order_verifier_of(struct tkv_os *os);
struct tkv_os *order_below(struct tkv_os *os);
struct order_state *order_enter(struct tkv_os *os, const char *call);
struct order_state *order_enter_change(struct tkv_os *os, const char *call);
void order_leave(struct tkv_os *os);
void order_advance(struct order_state *s);
struct order_file *order_file_at(struct order_state *s, int fd);
bool order_is_root(struct order_state *s, int dir);
bool order_is_log(const struct order_file *file);

/* ---- The table: each function asks the rules, makes the call without holding the mutex, and
 * notes the outcome. What has begun and not returned counts neither as done nor as durable. - */

/* order_names.c */
int watch_open_dir(struct tkv_os *os, const char *path, bool create);
int watch_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create);
int watch_sync_dir(struct tkv_os *os, int dir);
int watch_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context);
int watch_rename(struct tkv_os *os, int dir, const char *from, const char *to);
int watch_unlink(struct tkv_os *os, int dir, const char *name);
int watch_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info);
int watch_open(struct tkv_os *os, int dir, const char *name, unsigned flags);
int watch_close(struct tkv_os *os, int fd);

/* order_bytes.c */
int64_t watch_read(struct tkv_os *os, int fd, void *buffer, size_t size, uint64_t offset);
int watch_file_size(struct tkv_os *os, int fd, uint64_t *ret_size);
int64_t watch_write(struct tkv_os *os, int fd, const void *data, size_t size,
                    uint64_t offset);
void watch_store(struct tkv_os *os, int fd, void *map, uint64_t offset, const void *data,
                 size_t size);
int watch_truncate(struct tkv_os *os, int fd, uint64_t size);
int watch_allocate(struct tkv_os *os, int fd, uint64_t size);
int watch_sync(struct tkv_os *os, int fd);
void order_learn_class(struct order_file *file, const uint8_t *data, uint64_t offset,
                       uint64_t size);

#endif
