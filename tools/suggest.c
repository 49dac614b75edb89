/* SPDX-License-Identifier: MIT */
/* suggest.c - which verb was meant by a word that is none. */
#include <string.h>

#include "verbs.h"

enum { NAME_SIZE_MAX = 24 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, changes and swaps of neighbours that lead from one to the other. */
static size_t distance(const char *from, const char *to)
{
    size_t rows[NAME_SIZE_MAX + 1][NAME_SIZE_MAX + 1];
    const size_t height = strlen(from), width = strlen(to);

    for (size_t i = 0; i <= height; i++) {
        for (size_t j = 0; j <= width; j++) {
            size_t best;

            if (i == 0 || j == 0) {
                rows[i][j] = i + j;
                continue;
            }
            best = rows[i - 1][j - 1] + (from[i - 1] == to[j - 1] ? 0 : 1);
            best = smaller(best, 1 + smaller(rows[i - 1][j], rows[i][j - 1]));
            if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1])
                best = smaller(best, 1 + rows[i - 2][j - 2]);
            rows[i][j] = best;
        }
    }
    return rows[height][width];
}

/* Words that other tools use. */
static const char *synonym(const char *name)
{
    static const char *const synonyms[][2] = {
        {"put",    "set"    },
        {"delete", "del"    },
        {"rm",     "del"    },
        {"remove", "del"    },
        {"ls",     "list"   },
        {"keys",   "list"   },
        {"scan",   "list"   },
        {"export", "dump"   },
        {"import", "load"   },
        {"info",   "stats"  },
        {"check",  "verify" },
        {"repair", "salvage"},
        {"size",   "count"  },
    };

    for (size_t i = 0; i < sizeof synonyms / sizeof synonyms[0]; i++) {
        if (strcmp(synonyms[i][0], name) == 0)
            return synonyms[i][1];
    }
    return name;
}

const struct verb *verb_suggest(const char *name)
{
    const struct verb *closest = NULL;
    size_t closest_distance = 3;

    name = synonym(name);
    if (strlen(name) > NAME_SIZE_MAX)
        return NULL;
    for (size_t i = 0; i < verb_count; i++) {
        const size_t d = distance(name, verbs[i]->name);

        if (d < closest_distance && d < strlen(name)) {
            closest_distance = d;
            closest = verbs[i];
        }
    }
    return closest;
}
