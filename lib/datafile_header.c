/* SPDX-License-Identifier: MIT */
#include "datafile_header.h"

#include "bytes.h"
#include "checksum.h"
#include "error.h"

#include <errno.h>

enum {
    AT_CRC = 8,
    AT_VERSION = 12,
    AT_UUID = 16,
    AT_NUMBER = 32,
    AT_SEQ_BASE = 40,
    AT_CLASS = 48
};

static const uint8_t magic[8] = {'T', 'K', 'V', 'D', 'A', 'T', '\r', '\n'};

void tkv_datafile_header_encode(const uint8_t uuid[16], uint64_t number, uint64_t seq_base,
                                enum tkv_file_class file_class,
                                uint8_t out[TKV_DATA_HEADER_SIZE])
{
    memset(out, 0, TKV_DATA_HEADER_SIZE);
    memcpy(out, magic, sizeof magic);
    tkv_put_le32(out + AT_VERSION, TKV_FORMAT_VERSION);
    memcpy(out + AT_UUID, uuid, 16);
    tkv_put_le64(out + AT_NUMBER, number);
    tkv_put_le64(out + AT_SEQ_BASE, seq_base);
    out[AT_CLASS] = (uint8_t)file_class;
    tkv_put_le32(out + AT_CRC,
                 tkv_crc32(0, out + AT_VERSION, TKV_DATA_HEADER_SIZE - AT_VERSION));
}

/* A header as some store has written it. */
static bool is_header(const uint8_t bytes[TKV_DATA_HEADER_SIZE])
{
    return memcmp(bytes, magic, sizeof magic) == 0 &&
           tkv_crc32(0, bytes + AT_VERSION, TKV_DATA_HEADER_SIZE - AT_VERSION) ==
               tkv_get_le32(bytes + AT_CRC);
}

static enum tkv_leftover leftover_with(const uint8_t header[TKV_DATA_HEADER_SIZE],
                                       const uint8_t uuid[16])
{
    if (!is_header(header))
        return TKV_LEFTOVER_VALUE;
    if (memcmp(header + AT_UUID, uuid, 16) != 0)
        return TKV_LEFTOVER_FOREIGN;
    return header[AT_CLASS] == TKV_FILE_FRESH || header[AT_CLASS] == TKV_FILE_COMPACTED
               ? TKV_LEFTOVER_RECORDS
               : TKV_LEFTOVER_VALUE;
}

/* What cannot be looked at now can be looked at by the next opening. */
enum tkv_leftover TKV_COLD tkv_datafile_leftover(struct tkv_os *os, int dir,
                                                 const char *name, const uint8_t uuid[16])
{
    uint8_t header[TKV_DATA_HEADER_SIZE];
    const int fd = os->open(os, dir, name, TKV_OS_READ);
    int result;

    if (fd < 0)
        return fd != -ENOENT && fd != -ELOOP && fd != -EINVAL ? TKV_LEFTOVER_FOREIGN
                                                              : TKV_LEFTOVER_VALUE;
    result = tkv_os_read_all(os, fd, header, sizeof header, 0);
    (void)os->close(os, fd); /* it was only read */
    if (result < 0)
        return result != -ENODATA ? TKV_LEFTOVER_FOREIGN : TKV_LEFTOVER_VALUE;
    return leftover_with(header, uuid);
}

enum tkv_status tkv_datafile_header_check(const uint8_t bytes[TKV_DATA_HEADER_SIZE],
                                          const uint8_t uuid[16], const char *name,
                                          const struct tkv_manifest_file *entry,
                                          uint64_t *ret_seq_base, struct tkv_error *err)
{
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return tkv_fail_corrupt(err, name, 0, 0, "not a data file");
    if (!is_header(bytes))
        return tkv_fail_corrupt(err, name, 0, 0, "header checksum");
    if (tkv_get_le32(bytes + AT_VERSION) != TKV_FORMAT_VERSION)
        return tkv_fail(
            err, TKV_UNSUPPORTED, "%s has format version %lu, this is version %u", name,
            (unsigned long)tkv_get_le32(bytes + AT_VERSION), TKV_FORMAT_VERSION);
    if (memcmp(bytes + AT_UUID, uuid, 16) != 0)
        return tkv_fail_corrupt(err, name, AT_UUID, 0, "it belongs to another store");
    if (tkv_get_le64(bytes + AT_NUMBER) != entry->number)
        return tkv_fail_corrupt(err, name, AT_NUMBER, 0,
                                "it is data file %llu under this name",
                                (unsigned long long)tkv_get_le64(bytes + AT_NUMBER));
    if ((entry->seq_base != TKV_SEQ_BASE_ANY &&
         tkv_get_le64(bytes + AT_SEQ_BASE) != entry->seq_base) ||
        bytes[AT_CLASS] != (uint8_t)entry->file_class)
        return tkv_fail_corrupt(err, name, AT_SEQ_BASE, 0, "header disagrees with %s",
                                TKV_MANIFEST_NAME);
    *ret_seq_base = tkv_get_le64(bytes + AT_SEQ_BASE);
    return TKV_OK;
}
