/* SPDX-License-Identifier: MIT */
#include "settings.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATES_DEFAULT 240000u
#define STATES_LONG    2000000u
#define PROCESSES_MAX  64u

/* "P0", or several with commas. */
static bool parse_models(const char *text, unsigned *ret_models)
{
    unsigned models = 0;

    for (; *text != 0; text += *text == ',') {
        if (toupper((unsigned char)text[0]) != 'P' || text[1] < '0' || text[1] > '9' ||
            (text[2] != 0 && text[2] != ','))
            return false;
        models |= 1u << (text[1] - '0');
        text += 2;
    }
    *ret_models = models;
    return models != 0;
}

static bool parse_number(const char *text, uint64_t *ret_number)
{
    char *end;

    *ret_number = strtoull(text, &end, 10);
    return end != text && *end == 0;
}

static bool parse_one(struct settings *s, const char *name, const char *value)
{
    uint64_t number;

    if (strcmp(name, "--only") == 0)
        return (s->only = value) != NULL;
    if (strcmp(name, "--program") == 0)
        return (s->program = value) != NULL;
    if (strcmp(name, "--model") == 0)
        return parse_models(value, &s->models);
    if (!parse_number(value, &number))
        return false;
    if (strcmp(name, "--states") == 0)
        s->states = number;
    else if (strcmp(name, "--seconds") == 0)
        s->seconds = (double)number;
    else if (strcmp(name, "--seed") == 0)
        s->seed = number;
    else if (strcmp(name, "--processes") == 0)
        s->processes = (unsigned)(number <= PROCESSES_MAX ? number : 0);
    else
        return false;
    return true;
}

static void print_usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--states N] [--seconds S] [--seed X] [--model P0,..,P9]\n"
            "    [--processes P] [--only NAME] [--program \"put 2 40; sync\"] "
            "[--all-subsets]\n",
            program);
}

bool settings_parse(struct settings *settings, int argc, char **argv)
{
    bool is_limited = false, good = true;

    *settings = (struct settings){
        .seed = 1, .processes = 2, .models = (1u << MODEL_COUNT) - 1, .only = ""};
    for (int i = 1; i < argc && good; i++) {
        if (strcmp(argv[i], "--all-subsets") == 0) {
            settings->all_subsets = true;
            continue;
        }
        is_limited |= strcmp(argv[i], "--states") == 0 || strcmp(argv[i], "--seconds") == 0;
        good = i + 1 < argc && parse_one(settings, argv[i], argv[i + 1]);
        i++;
    }
    if (!is_limited)
        settings->states = STATES_DEFAULT;
    settings->is_long = settings->states == 0 || settings->states >= STATES_LONG;
    if (!good || settings->processes == 0) {
        print_usage(argv[0]);
        return false;
    }
    return true;
}
