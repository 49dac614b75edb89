/* SPDX-License-Identifier: MIT */
/* info.c - version, build information and the names of events. */
#include "tinykv.h"

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

#define VERSION \
    TEXT(TKV_VERSION_MAJOR) "." TEXT(TKV_VERSION_MINOR) "." TEXT(TKV_VERSION_PATCH)

#ifdef TKV_HAVE_LIBDEFLATE
#include <libdeflate.h>
#define CHECKSUM_BY "libdeflate " LIBDEFLATE_VERSION_STRING
#else
#include <zlib.h>
#define CHECKSUM_BY "zlib " ZLIB_VERSION
#endif

const char *tkv_version(void)
{
    return VERSION;
}

const char *tkv_build_info(void)
{
    return "tinykv " VERSION "; checksums and zlib streams by " CHECKSUM_BY
           "; index by uthash, hashed with XXH3; format 1";
}

const char *tkv_event_text(enum tkv_event_kind kind)
{
    switch (kind) {
    case TKV_EVENT_OPENED:
        return "opened";
    case TKV_EVENT_RECOVERED:
        return "recovered";
    case TKV_EVENT_TAIL_CUT:
        return "tail cut";
    case TKV_EVENT_ROTATED:
        return "rotated";
    case TKV_EVENT_CHECKPOINTED:
        return "checkpointed";
    case TKV_EVENT_COMPACTION_PICKED:
        return "compaction picked";
    case TKV_EVENT_COMPACTION_COPIED:
        return "compaction copied";
    case TKV_EVENT_COMPACTION_INSTALLED:
        return "compaction installed";
    case TKV_EVENT_FILE_REMOVED:
        return "file removed";
    case TKV_EVENT_DISK_FULL:
        return "disk full";
    case TKV_EVENT_CORRUPTION:
        return "corruption";
    case TKV_EVENT_POISONED:
        return "poisoned";
    }
    return "unknown event";
}
