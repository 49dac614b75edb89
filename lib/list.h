/* SPDX-License-Identifier: MIT */
/* list.h - a ring of links, each inside of what it links; the list itself is one more. */
#ifndef TKV_LIST_H
#define TKV_LIST_H

#include <stdbool.h>

struct tkv_link {
    struct tkv_link *next, *prev;
};

static inline void tkv_list_init(struct tkv_link *list)
{
    list->next = list->prev = list;
}

static inline bool tkv_list_is_empty(const struct tkv_link *list)
{
    return list->next == list;
}

static inline void tkv_list_insert_after(struct tkv_link *place, struct tkv_link *link)
{
    link->prev = place;
    link->next = place->next;
    place->next->prev = link;
    place->next = link;
}

static inline void tkv_list_remove(struct tkv_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
}

#endif
