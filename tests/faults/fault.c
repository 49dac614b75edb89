/* SPDX-License-Identifier: MIT */
#include "fault.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* EINTR is where lib/os.h lets it through: os_posix.c tries opens, reads, writes, truncates
 * and locks again. A clock and the random source have no choice of errors. */
const struct fault_kind fault_kinds[] = {
    {SIMDISK_OPEN_DIR,
     "open-dir",                         {EIO, ENOSPC, EMFILE, ENFILE, EACCES, EROFS, EDQUOT, ENOMEM, ESTALE}          },
    {SIMDISK_SYNC_DIR,
     "sync-dir",                         {EIO, ENOSPC, EDQUOT, EINTR, EROFS, ESTALE, ENOMEM, EINVAL, ENXIO}            },
    {SIMDISK_LIST,         "list",       {EIO, ENOMEM, EMFILE, EACCES, ESTALE}                                         },
    {SIMDISK_RENAME,       "rename",     {EIO, ENOSPC, EDQUOT, EACCES, EROFS, ENOMEM, ESTALE}                          },
    {SIMDISK_UNLINK,       "unlink",     {EIO, ENOSPC, EACCES, EROFS, EDQUOT, ENOMEM, ESTALE}                          },
    {SIMDISK_FS_INFO,      "fs-info",    {EIO, ENOMEM, EACCES, EINTR, ESTALE}                                          },
    {SIMDISK_OPEN,
     "open",                             {EMFILE, ENOSPC, EIO, ENFILE, EACCES, EROFS, EDQUOT, ENOMEM, ESTALE, EFBIG}   },
    {SIMDISK_CLOSE,        "close",      {EIO, EINTR, ENOSPC, EDQUOT, ESTALE}                                          },
    {SIMDISK_READ,         "read",       {EIO, ENOMEM, EAGAIN, ESTALE, ENXIO, ENODEV}                                  },
    {SIMDISK_WRITE,
     "write",                            {EIO, ENOSPC, EDQUOT, EFBIG, EROFS, EAGAIN, ENOMEM, ESTALE, ENXIO, ENODEV,
      EOPNOTSUPP}                                                                                         },
    {SIMDISK_SYNC,
     "sync",                             {EIO, ENOSPC, EDQUOT, EINTR, EROFS, ENOMEM, ESTALE, ENXIO, ENODEV, EOPNOTSUPP}},
    {SIMDISK_TRUNCATE,     "truncate",   {EIO, ENOSPC, EFBIG, EROFS, EACCES, ESTALE}                                   },
    {SIMDISK_ALLOCATE,     "allocate",   {EIO, ENOSPC, EFBIG, EDQUOT, EOPNOTSUPP}                                      },
    {SIMDISK_FILE_SIZE,    "file-size",  {EIO, ENOMEM, ESTALE}                                                         },
    {SIMDISK_ADVISE,       "advise",     {EIO}                                                                         },
    {SIMDISK_WRITE_BACK,   "write-back", {EIO, ENOSPC, EDQUOT, EINVAL}                                                 },
    {SIMDISK_MAP,          "map",        {ENOMEM, EACCES, ENFILE, EAGAIN}                                              },
    {SIMDISK_UNMAP,        "unmap",      {ENOMEM}                                                                      },
    {SIMDISK_LOCK,         "lock",       {EIO, EAGAIN, ENOLCK, ENOMEM, ESTALE}                                         },
    {SIMDISK_CLOCK,        "clock",      {EIO}                                                                         },
    {SIMDISK_RANDOM_BYTES, "random",     {EIO, EAGAIN}                                                                 },
    {FAULT_MEMORY,         "memory",     {0}                                                                           },
    {FAULT_THREAD,         "thread",     {0}                                                                           },
};
const size_t fault_kind_count = sizeof fault_kinds / sizeof *fault_kinds;

struct word {
    int number;
    const char *text;
};

#define WORD(name)  \
    {               \
        name, #name \
    }
static const struct word errnos[] = {
    WORD(EIO),    WORD(ENOSPC), WORD(EDQUOT), WORD(EMFILE), WORD(ENFILE),     WORD(EACCES),
    WORD(EROFS),  WORD(EINTR),  WORD(ENOMEM), WORD(EFBIG),  WORD(ESTALE),     WORD(EAGAIN),
    WORD(ENOLCK), WORD(EINVAL), WORD(ENXIO),  WORD(ENODEV), WORD(EOPNOTSUPP), {0, "none"},
};
#define SYNC_DROPS ((int)SIMDISK_FAILED_SYNC_REVERTS + 1)

static const struct word syncs[] = {
    {SIMDISK_FAILED_SYNC_LOSES,   "loses"  },
    {SIMDISK_FAILED_SYNC_KEEPS,   "keeps"  },
    {SIMDISK_FAILED_SYNC_REVERTS, "reverts"},
    {SYNC_DROPS,                  "drops"  },
};
static const struct word durations[] = {
    {false, "once"  },
    {true,  "sticky"},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *text_of(const struct word *words, size_t count, int number)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i].number == number)
            return words[i].text;
    }
    return "?";
}

static bool number_of(const struct word *words, size_t count, const char *text,
                      int *ret_number)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(words[i].text, text) != 0)
            continue;
        *ret_number = words[i].number;
        return true;
    }
    return false;
}

static const char *kind_name(unsigned kind)
{
    for (size_t i = 0; i < fault_kind_count; i++) {
        if (fault_kinds[i].kind == kind)
            return fault_kinds[i].name;
    }
    return "none";
}

void fault_print(const struct fault *fault, char out[FAULT_TEXT_SIZE])
{
    snprintf(out, FAULT_TEXT_SIZE, "%s@%" PRIu64 ":%s:%s:%s:%zu", kind_name(fault->kind),
             fault->at, text_of(errnos, COUNT(errnos), fault->os_errno),
             text_of(durations, COUNT(durations), fault->sticky),
             text_of(syncs, COUNT(syncs),
                     fault->drops_cache ? SYNC_DROPS : (int)fault->failed_sync),
             fault->io_size_max);
}

bool fault_parse(const char *text, struct fault *ret_fault)
{
    char kind[16], error[16], duration[16], sync[16];
    struct fault fault = {.kind = 0};
    int sticky = 0, failed_sync = 0;

    if (sscanf(text, "%15[^@]@%" SCNu64 ":%15[^:]:%15[^:]:%15[^:]:%zu", kind, &fault.at,
               error, duration, sync, &fault.io_size_max) != 6)
        return false;
    for (size_t i = 0; i < fault_kind_count; i++) {
        if (strcmp(fault_kinds[i].name, kind) == 0)
            fault.kind = fault_kinds[i].kind;
    }
    if ((fault.kind == 0 && strcmp(kind, "none") != 0) ||
        !number_of(errnos, COUNT(errnos), error, &fault.os_errno) ||
        !number_of(durations, COUNT(durations), duration, &sticky) ||
        !number_of(syncs, COUNT(syncs), sync, &failed_sync))
        return false;
    fault.sticky = sticky != 0;
    fault.drops_cache = failed_sync == SYNC_DROPS;
    if (!fault.drops_cache)
        fault.failed_sync = (enum simdisk_failed_sync)failed_sync;
    *ret_fault = fault;
    return true;
}
