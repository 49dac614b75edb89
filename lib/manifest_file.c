/* SPDX-License-Identifier: MIT */
/*
 * manifest_file.c - the manifest on disk: read as a whole, and replaced as a whole. What the
 * bytes mean is manifest.c's business.
 *
 *   1. contents  into MANIFEST.tmp, always a new file, which is synced and closed
 *   2. name      MANIFEST.tmp is renamed to MANIFEST, and the directory is synced
 *
 * Invariant: under the name is a whole manifest at any time, the old one or the new one.
 *
 * When something fails in 1, the old manifest stands and MANIFEST.tmp is removed; in 2, nobody
 * knows which manifest is on disk.
 *
 * Threads: the owner serialises reading and replacing it.
 */
#include "manifest.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"

/* ---- Reading ---- */

enum tkv_status tkv_manifest_read(struct tkv_os *os, int dir,
                                  struct tkv_manifest *ret_manifest, struct tkv_error *err)
{
    enum tkv_status status;
    uint8_t *bytes = NULL;
    uint64_t size = 0;
    int fd, result;

    fd = os->open(os, dir, TKV_MANIFEST_NAME, TKV_OS_READ);
    if (fd == -ENOENT)
        return tkv_fail(err, TKV_NOT_FOUND, "there is no %s", TKV_MANIFEST_NAME);
    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_MANIFEST_NAME, "open %s", TKV_MANIFEST_NAME);

    result = os->file_size(os, fd, &size);
    if (result < 0) {
        status =
            tkv_fail_os(err, result, TKV_MANIFEST_NAME, "size of %s", TKV_MANIFEST_NAME);
        goto out;
    }
    if (size > TKV_MANIFEST_SIZE_MAX) {
        status = tkv_fail_corrupt(err, TKV_MANIFEST_NAME, size, 0,
                                  "the file is larger than any manifest");
        goto out;
    }
    bytes = malloc((size_t)size + 1); /* never of no bytes */
    if (bytes == NULL) {
        status = tkv_fail_memory(err, (size_t)size + 1, "the manifest");
        goto out;
    }
    result = tkv_os_read_all(os, fd, bytes, (size_t)size, 0);
    if (result < 0) {
        status = tkv_fail_os(err, result, TKV_MANIFEST_NAME, "read %s", TKV_MANIFEST_NAME);
        goto out;
    }
    status = tkv_manifest_decode(tkv_bytes(bytes, (size_t)size), ret_manifest, err);
out:
    free(bytes);
    (void)os->close(os, fd); /* it was only read */
    return status;
}

/* ---- Replacing ---- */

/* Always a new file: one whose sync has failed, and which could not be removed then, must not
 * be synced again. What a crash has left is removed. */
static int create_temporary(struct tkv_os *os, int dir)
{
    const unsigned flags = TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_EXCLUSIVE;
    int fd = os->open(os, dir, TKV_MANIFEST_TEMPORARY_NAME, flags), result;

    if (fd != -EEXIST)
        return fd;
    result = os->unlink(os, dir, TKV_MANIFEST_TEMPORARY_NAME);
    return result < 0 ? result : os->open(os, dir, TKV_MANIFEST_TEMPORARY_NAME, flags);
}

/* Everything that can fail while the old manifest certainly stands. A failed sync belongs
 * here: nobody will ever look at the temporary file, so what is in it does not matter. */
static enum tkv_status write_temporary(struct tkv_os *os, int dir, struct tkv_slice bytes,
                                       struct tkv_error *err)
{
    const char *const temporary = TKV_MANIFEST_TEMPORARY_NAME;
    const char *step = "create";
    int fd, result;

    fd = create_temporary(os, dir);
    result = fd;
    if (fd >= 0) {
        step = "write";
        result = tkv_os_write_all(os, fd, bytes.data, bytes.size, 0);
        if (result >= 0) {
            step = "sync";
            result = os->sync(os, fd);
        }
        if (result >= 0) {
            step = "close";
            result = os->close(os, fd);
        } else {
            (void)os->close(os, fd); /* the first failure is the one to report */
        }
    }
    if (result >= 0)
        return TKV_OK;
    (void)os->unlink(os, dir, temporary); /* best effort; opening a store removes it too */
    return tkv_fail_os(err, result, TKV_MANIFEST_NAME, "%s %s", step, temporary);
}

enum tkv_status TKV_COLD tkv_manifest_write(struct tkv_os *os, int dir,
                                            const struct tkv_manifest *manifest,
                                            bool *ret_unknown, struct tkv_error *err)
{
    enum tkv_status status;
    uint8_t *bytes = NULL;
    size_t size = 0;
    int result;

    *ret_unknown = false;
    status = tkv_manifest_encode(manifest, &bytes, &size, err);
    if (status != TKV_OK)
        return status;
    status = write_temporary(os, dir, tkv_bytes(bytes, size), err);
    free(bytes);
    if (status != TKV_OK)
        return status;

    /* From here on the names on disk may be the old ones or the new ones. Nothing is
     * cleaned up: that would be one more change nobody knows the fate of. */
    result = os->rename(os, dir, TKV_MANIFEST_TEMPORARY_NAME, TKV_MANIFEST_NAME);
    if (result < 0) {
        *ret_unknown = true;
        return tkv_fail_lost(err, result, TKV_MANIFEST_NAME, "rename %s to %s",
                             TKV_MANIFEST_TEMPORARY_NAME, TKV_MANIFEST_NAME);
    }
    /* The rename is atomic but not yet durable: until the directory is synced, a power cut
     * may bring the old manifest back. */
    result = os->sync_dir(os, dir);
    if (result < 0) {
        *ret_unknown = true;
        return tkv_fail_lost(err, result, TKV_MANIFEST_NAME,
                             "sync the directory after renaming %s", TKV_MANIFEST_NAME);
    }
    return TKV_OK;
}
