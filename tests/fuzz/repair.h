/* SPDX-License-Identifier: MIT */
/* repair.h - make every checksum of a store right again, the references between its files
 * included (checksums.h does it for one file). */
#ifndef TKV_FUZZ_REPAIR_H
#define TKV_FUZZ_REPAIR_H

#include "memory_disk.h"

/* `all`: positions and sequence numbers of the log's groups as well, and the manifest's size. */
void repair(struct memory_disk *disk, bool all);

#endif
