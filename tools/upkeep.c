/* SPDX-License-Identifier: MIT */
/* upkeep.c - the verbs that look after a store: compact and verify. */
#include <inttypes.h>
#include <stdio.h>

#include "complain.h"
#include "json_write.h"
#include "opening.h"
#include "verbs.h"

/* ---- compact --------------------------------------------------------------------- */

static int compact(struct tkv_store *store, const struct command *command)
{
    struct tkv_error err;
    uint64_t bytes;

    if (tkv_compact(store, &bytes, &err) != TKV_OK)
        return complain_of(&err);
    printf(has(command, OPTION_JSON) ? "{\"bytes_reclaimed\":%" PRIu64 "}\n"
                                     : "%" PRIu64 "\n",
           bytes);
    return DONE;
}

int run_compact(const struct command *command)
{
    struct tkv_store *store;
    const int code = opening_open(command, OPENING_WRITE, &store);

    return code == DONE ? opening_close(store, compact(store, command)) : code;
}

/* ---- verify ---------------------------------------------------------------------- */

struct findings {
    bool json;
    uint64_t count;
};

static void print_finding(void *context, const struct tkv_finding *finding)
{
    struct findings *findings = context;

    if (!findings->json) {
        printf("%s\t%" PRIu64 "\t%" PRIu64 "\t%s\n",
               finding->file[0] == '\0' ? "-" : finding->file, finding->offset,
               finding->seq, finding->message);
    } else {
        printf("%s{\"file\":", findings->count == 0 ? "" : ",");
        json_write_message(stdout, finding->file);
        printf(",\"offset\":%" PRIu64 ",\"seq\":%" PRIu64 ",\"message\":", finding->offset,
               finding->seq);
        json_write_message(stdout, finding->message);
        printf("}");
    }
    findings->count++;
}

/* A store that is too damaged to be opened has one finding: the reason. */
static void print_error(struct findings *findings, const struct tkv_error *err)
{
    struct tkv_finding finding = {
        .status = err->status, .offset = err->offset, .seq = err->seq};

    memcpy(finding.file, err->file, sizeof finding.file);
    memcpy(finding.message, err->message, sizeof finding.message);
    print_finding(findings, &finding);
}

static void print_summary(const struct findings *findings,
                          const struct tkv_verify_report *report)
{
    if (findings->json)
        printf("],\"files\":%" PRIu64 ",\"records\":%" PRIu64 ",\"bytes\":%" PRIu64
               ",\"keys\":%" PRIu64 "}\n",
               report->files, report->records, report->bytes, report->keys);
    else
        printf("%" PRIu64 " findings in %" PRIu64 " files, %" PRIu64 " records, %" PRIu64
               " bytes, %" PRIu64 " keys\n",
               findings->count, report->files, report->records, report->bytes,
               report->keys);
}

static int verify(struct tkv_store *store, struct findings *findings)
{
    struct tkv_verify_report report;
    struct tkv_error err;
    enum tkv_status status;

    memset(&report, 0, sizeof report);
    status = tkv_verify(store, print_finding, findings, &report, &err);
    print_summary(findings, &report);
    if (findings->count > 0)
        return DAMAGED;
    return status == TKV_OK ? DONE : complain_of(&err);
}

int run_verify(const struct command *command)
{
    const struct tkv_verify_report nothing_read = {0};
    struct findings findings = {.json = has(command, OPTION_JSON)};
    struct tkv_store *store;
    struct tkv_error err;
    const enum tkv_status status = opening_try(command, OPENING_READ, &store, &err);

    if (status != TKV_OK && status != TKV_CORRUPT)
        return complain_of(&err);
    fputs(findings.json ? "{\"findings\":[" : "", stdout);
    if (status == TKV_OK)
        return opening_close(store, verify(store, &findings));
    print_error(&findings, &err);
    print_summary(&findings, &nothing_read);
    return DAMAGED;
}
