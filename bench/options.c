/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* ---- Lists ------------------------------------------------------------------------------ */

/* Copies the first name of a list; returns where the next begins, NULL behind the last. */
static const char *next_name(const char *list, char name[64])
{
    const size_t length = strcspn(list, ",");

    snprintf(name, 64, "%.*s", (int)length, list);
    return list[length] == ',' ? list + length + 1 : NULL;
}

static bool is_listed(const char *list, const char *name)
{
    char listed[64];

    while (list != NULL) {
        list = next_name(list, listed);
        if (strcmp(listed, name) == 0)
            return true;
    }
    return false;
}

/* A workload is named as put, put:16 or put:16:always. */
bool bench_is_wanted(const struct bench_options *o, const struct bench_workload *w)
{
    char name[64];

    if (o->quick && !w->in_quick)
        return false;
    if (o->only == NULL)
        return !w->is_extra;
    if (!w->is_extra && is_listed(o->only, w->name))
        return true;
    snprintf(name, sizeof name, "%s:%u", w->name, w->threads);
    if (is_listed(o->only, name))
        return true;
    snprintf(name, sizeof name, "%s:%u:%s", w->name, w->threads,
             w->durability == BENCH_ALWAYS ? "always" : "none");
    return is_listed(o->only, name);
}

bool bench_is_chosen(const struct bench_options *o, const struct bench_engine *engine)
{
    if (o->engines != NULL)
        return is_listed(o->engines, engine->name);
    /* Nobody chooses it for speed any more, and it takes long. */
    return !engine->is_variant && (!o->quick || strcmp(engine->name, "berkeleydb") != 0);
}

/* ---- Arguments ---------------------------------------------------------------------------- */

static void print_usage(FILE *out)
{
    fprintf(out,
            "usage: tinykv-bench [--quick] [--json FILE] [--only WORKLOAD,...] [--engine "
            "ENGINE,...]\n"
            "                    [--keys N] [--value-size BYTES] [--runs 1..%u] "
            "[--seconds S]\n"
            "                    [--rate OPS] [--memory-limit BYTES] [--dir DIRECTORY] "
            "[--facts FILE]\n"
            "a WORKLOAD is a name, or name:threads, or name:threads:always|none\n",
            BENCH_RUNS_MAX);
}

static _Noreturn void usage(void)
{
    print_usage(stderr);
    exit(2);
}

static double number(const char *text, double least, double most)
{
    char *end;
    const double value = strtod(text, &end);

    if (*text == 0 || *end != 0 || !(value >= least && value <= most)) /* nor NaN */
        usage();
    return value;
}

static double whole_number(const char *text, double least, double most)
{
    const double value = number(text, least, most);

    if (value != (double)(uint64_t)value)
        usage();
    return value;
}

static void set_option(struct bench_options *o, int option, const char *argument)
{
    struct bench_settings *s = &o->settings;

    switch (option) {
    case 'q':
        o->quick = true;
        break;
    case 'j':
        o->json_path = argument;
        break;
    case 'f':
        o->facts_path = argument;
        break;
    case 'o':
        o->only = argument;
        break;
    case 'e':
        o->engines = argument;
        break;
    case 'd':
        s->directory = argument;
        break;
    case 'k':
        s->keys = (uint64_t)whole_number(argument, 100, 4e9);
        break;
    case 'v':
        s->value_size = (size_t)whole_number(argument, 0, 64e6);
        break;
    case 'r':
        o->runs = (unsigned)whole_number(argument, 1, BENCH_RUNS_MAX);
        break;
    case 's':
        s->seconds = number(argument, 0.01, 3600);
        break;
    case 'R':
        s->rate = number(argument, 0, 1e9);
        break;
    case 'm':
        s->memory_limit = (uint64_t)whole_number(argument, 0, 1e15);
        break;
    case 'h':
        print_usage(stdout);
        exit(0);
    default:
        usage();
    }
}

/* ---- Names that say nothing ---------------------------------------------------------------- */

static bool selects_a_workload(const struct bench_options *o, const char *name)
{
    const struct bench_options alone = {.only = name, .quick = o->quick};

    for (size_t i = 0; i < bench_workload_count; i++) {
        if (bench_is_wanted(&alone, &bench_workloads[i]))
            return true;
    }
    return false;
}

static bool is_engine(const char *name)
{
    for (size_t i = 0; i < bench_engine_count; i++) {
        if (strcmp(bench_engines[i]->name, name) == 0)
            return true;
    }
    return false;
}

static void check_workloads(const struct bench_options *o)
{
    const char *list = o->only;
    char name[64];

    while (list != NULL) {
        list = next_name(list, name);
        if (selects_a_workload(o, name))
            continue;
        fprintf(stderr, "bench: no workload is named \"%s\"%s\n", name,
                o->quick ? " among those of --quick" : "");
        exit(2);
    }
}

/* Peers are optional: one that this build does without is told, and left out. */
static void check_engines(const struct bench_options *o)
{
    const char *list = o->engines;
    unsigned known = 0;
    char name[64];

    while (list != NULL) {
        list = next_name(list, name);
        if (is_engine(name))
            known++;
        else
            fprintf(stderr, "bench: no engine is named \"%s\" in this build\n", name);
    }
    if (o->engines != NULL && known == 0)
        exit(2);
}

/* ---- All together -------------------------------------------------------------------------- */

/* What was not asked for in particular. */
static void set_defaults(struct bench_options *o)
{
    if (o->runs == 0)
        o->runs = o->quick ? 3 : 5;
    if (o->settings.seconds == 0)
        o->settings.seconds = o->quick ? 0.25 : 1;
}

/* Only now that the arguments are known to make sense; NULL without a path. */
static FILE *file_new(const char *path)
{
    FILE *file;

    if (path == NULL)
        return NULL;
    file = fopen(path, "ae"); /* what is in it stays until there is better */
    if (file == NULL)
        bench_die("bench", path, strerror(errno));
    return file;
}

void bench_parse(int argc, char **argv, struct bench_options *ret_options)
{
    static const struct option options[] = {
        {"quick",        no_argument,       NULL, 'q'},
        {"json",         required_argument, NULL, 'j'},
        {"facts",        required_argument, NULL, 'f'},
        {"only",         required_argument, NULL, 'o'},
        {"engine",       required_argument, NULL, 'e'},
        {"dir",          required_argument, NULL, 'd'},
        {"keys",         required_argument, NULL, 'k'},
        {"value-size",   required_argument, NULL, 'v'},
        {"runs",         required_argument, NULL, 'r'},
        {"seconds",      required_argument, NULL, 's'},
        {"rate",         required_argument, NULL, 'R'},
        {"memory-limit", required_argument, NULL, 'm'},
        {"help",         no_argument,       NULL, 'h'},
        {NULL,           0,                 NULL, 0  }
    };
    int option;

    *ret_options = (struct bench_options){
        .settings = {.directory = "/var/tmp", .keys = 1000000, .value_size = 100}
    };
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        set_option(ret_options, option, optarg);
    if (optind != argc)
        usage();
    check_workloads(ret_options);
    check_engines(ret_options);
    set_defaults(ret_options);
    ret_options->json = file_new(ret_options->json_path);
    ret_options->facts = file_new(ret_options->facts_path);
}
