/* SPDX-License-Identifier: MIT */
/* machine.h - what a run cost the machine, and the limits that a run is put under. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes that the files below `path` occupy. */
uint64_t bench_disk_bytes(const char *path);
/* Bytes ever written to the device that holds `path`, by anybody; 0 where the kernel does not
 * tell. Dirty pages of that file system are written first. */
uint64_t bench_device_bytes(const char *path);
/* Resident memory of this process, mapped files included. */
uint64_t bench_rss_bytes(void);

/* Touch so much memory, or a quarter of what the machine has, and give it back. A hypervisor may
 * take its time to supply memory that was not in use for a while: that is not to be measured. */
void bench_touch_memory(uint64_t bytes);

/* Read the files below `path`, so that they are in the page cache: the system may have dropped
 * what nobody has used for a while. */
void bench_read_files(const char *path);

#define BENCH_PATH_SIZE 1000u

/* A new directory below `parent`, which is made if need be: what was there before is left alone.
 * One a process, which removes it when it exits. */
void bench_directory_new(const char *parent, char path[BENCH_PATH_SIZE]);
/* Remove a directory and everything in it; fine when there is none. */
void bench_remove(const char *path);
/* Hold this process to so many bytes, page cache included, by a control group; 0: no limit.
 * False where that takes more rights than the process has. */
bool bench_limit_memory(uint64_t bytes);
/* Remove the control group, once no process is in it. */
void bench_remove_memory_limit(void);

/* The speed of the machine's disk: 4 KiB blocks that were written before, overwritten one after
 * the other with O_DIRECT|O_DSYNC. Writes a second; 0 where that is refused. */
double bench_bare_writes(const char *path, double seconds);

#endif
