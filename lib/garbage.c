/* SPDX-License-Identifier: MIT */
#include "garbage.h"

#include "store.h"

#include <stdlib.h>

/* ---- What is garbage ------------------------------------------------------------- */

/* Tombstones count as garbage until a compaction has found what they hide; then they are
 * needed for as long as that file exists. */
static uint64_t kept_bytes(struct tkv_datafile *file)
{
    const uint64_t live = tkv_usage_get(&file->usage.live_bytes);
    const uint64_t pinned_by = atomic_load(&file->pinned_by);

    return pinned_by == 0 ? live : live + tkv_usage_get(&file->usage.tombstone_bytes);
}

static struct tkv_pick_policy policy_of(const struct tkv_store *store, bool everything)
{
    return (struct tkv_pick_policy){
        .size_min = store->options.compact_size_min,
        .space_factor = store->options.space_factor,
        .everything = everything,
    };
}

uint64_t tkv_garbage_bytes(struct tkv_store *store)
{
    const uint64_t total = tkv_files_disk_bytes(store);
    const uint64_t kept =
        tkv_usage_get(&store->live_bytes) + tkv_usage_get(&store->pinned_bytes);

    return total > kept ? total - kept : 0;
}

bool tkv_garbage_wanted(struct tkv_store *store)
{
    const struct tkv_pick_policy policy = policy_of(store, false);
    const uint64_t futile =
        atomic_load_explicit(&store->reclaim_futile, memory_order_relaxed);

    if (atomic_load_explicit(&store->poisoned, memory_order_relaxed) != TKV_OK)
        return false;
    /* It did not help a moment ago: wait until there is more to gain. */
    if (futile != 0 && tkv_garbage_bytes(store) < futile + 64 * 1024)
        return false;
    if (atomic_load_explicit(&store->disk_full, memory_order_relaxed))
        return tkv_garbage_bytes(store) >= 64 * 1024;
    /* Needed deletes are not kept for their own sake: what they hide is garbage, of no less. */
    return tkv_pick_wanted(tkv_files_disk_bytes(store), tkv_usage_get(&store->live_bytes),
                           &policy);
}

static bool is_eligible(struct tkv_datafile *file)
{
    return atomic_load(&file->sealed) && file->durable == atomic_load(&file->size) &&
           file->durable != 0 && !atomic_load(&file->damaged);
}

/* ---- Candidates ------------------------------------------------------------------ */

void tkv_garbage_release(struct tkv_garbage_list *s)
{
    free(s->files);
    free(s->handles);
}

enum tkv_status tkv_garbage_list(struct tkv_store *store, struct tkv_garbage_list *s,
                                 struct tkv_error *err)
{
    const uint32_t used = atomic_load(&store->slots_used);
    uint64_t next_number;

    s->count = 0;
    s->files = calloc(used + 1, sizeof *s->files);
    s->handles = calloc(used + 1, sizeof *s->handles);
    if (s->files == NULL || s->handles == NULL)
        return tkv_fail_memory(err, used * sizeof *s->files, "a compaction");
    tkv_mutex_lock(&store->apply);
    next_number = store->next_number;
    tkv_mutex_unlock(&store->apply);
    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file == NULL)
            continue;
        s->handles[s->count] = file;
        s->files[s->count++] = (struct tkv_pick_file){
            .size = atomic_load(&file->size),
            .kept_bytes = kept_bytes(file),
            /* A large value's file may have entered since. */
            .age = file->number < next_number ? next_number - 1 - file->number : 0,
            .eligible = is_eligible(file),
        };
    }
    return TKV_OK;
}

/* Deletes are refused, or soon will be. */
static bool is_short(struct tkv_store *store)
{
    return tkv_space_is_short(store, TKV_PROMISE_SIZE_MIN);
}

/* Were all its deletes needed, and each output filled up to a block. */
static uint64_t output_bytes_max(struct tkv_datafile *file)
{
    return tkv_usage_get(&file->usage.live_bytes) +
           tkv_usage_get(&file->usage.tombstone_bytes) +
           TKV_OUTPUT_COUNT * (TKV_DATA_HEADER_SIZE + TKV_BLOCK_SIZE);
}

struct tkv_datafile *tkv_garbage_pick(struct tkv_store *store,
                                      const struct tkv_garbage_list *s, uint64_t below)
{
    struct tkv_pick_policy policy = policy_of(store, below != TKV_RECLAIM_AUTOMATIC);
    const uint64_t space = tkv_space_for_compaction(store);
    size_t picked;

    for (size_t i = 0; i < s->count; i++)
        s->files[i].eligible &=
            s->handles[i]->number < below && output_bytes_max(s->handles[i]) <= space;
    picked = tkv_pick(s->files, s->count, &policy);
    if (picked == TKV_PICK_NONE && is_short(store)) {
        policy.everything = true; /* even what saves less than it costs */
        picked = tkv_pick(s->files, s->count, &policy);
    }
    return picked != TKV_PICK_NONE ? s->handles[picked] : NULL;
}

bool tkv_garbage_is_dead(struct tkv_store *store, struct tkv_datafile *file)
{
    struct tkv_datafile *other;
    uint32_t slot = 0;

    if (!is_eligible(file) || tkv_usage_get(&file->usage.live_records) != 0)
        return false;
    if (tkv_usage_get(&file->usage.tombstone_bytes) == 0)
        return true;
    while ((other = tkv_files_next(store, &slot)) != NULL) {
        if (other != file && other->seq_min_put < file->seq_max)
            return false;
    }
    return true;
}

/* ---- Rolling over ---------------------------------------------------------------- */

static bool rolls_everything(struct tkv_store *store, uint64_t below)
{
    return below != TKV_RECLAIM_AUTOMATIC || is_short(store);
}

/* Close an output when it is worth compacting itself. */
static void roll_output(struct tkv_store *store, struct tkv_datafile **ret_output,
                        uint64_t below)
{
    const struct tkv_pick_policy policy = policy_of(store, rolls_everything(store, below));
    struct tkv_datafile *output = *ret_output;
    struct tkv_pick_file file = {.eligible = true};

    if (output == NULL || output->number >= below)
        return;
    file.size = atomic_load(&output->size);
    file.kept_bytes = kept_bytes(output);
    if (file.size <= TKV_BLOCK_SIZE || output->durable != file.size ||
        tkv_pick(&file, 1, &policy) != 0)
        return;
    atomic_store(&output->sealed, true);
    output->durable_sealed = true;
    *ret_output = NULL;
}

/* The same for the file that receives puts, and make it durable. */
static enum tkv_status roll_active(struct tkv_store *store, uint64_t below,
                                   struct tkv_error *err)
{
    const struct tkv_pick_policy policy = policy_of(store, rolls_everything(store, below));
    struct tkv_pick_file file = {.eligible = true};
    enum tkv_status status = TKV_OK;

    tkv_mutex_lock(&store->apply);
    file.size = atomic_load(&store->active->size);
    file.kept_bytes = tkv_usage_get(&store->active->usage.live_bytes);
    if (store->active->number < below && file.size > TKV_BLOCK_SIZE &&
        tkv_pick(&file, 1, &policy) == 0)
        status = tkv_apply_rotate(store, 0, err);
    tkv_mutex_unlock(&store->apply);
    if (status == TKV_OK)
        status = tkv_checkpoint_locked(store, false, err);
    return status;
}

enum tkv_status tkv_garbage_roll(struct tkv_store *store, uint64_t below,
                                 struct tkv_error *err)
{
    enum tkv_status status;

    for (unsigned i = 0; i < TKV_OUTPUT_COUNT; i++)
        roll_output(store, &store->outputs[i], below);
    status = roll_active(store, below, err);
    tkv_retire_soon(store);
    return status;
}
