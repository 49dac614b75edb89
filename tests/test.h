/* SPDX-License-Identifier: MIT */
/*
 * test.h - TEST(promise_in_words) defines a case, CHECK* compare and stop the program with
 * both values, TEST_MAIN runs all cases or those whose name contains one of the arguments (and
 * none of those that begin with a minus), prints one line for each and closes with
 * "N passed, N failed". No state is shared between cases.
 */
#ifndef TKV_TEST_H
#define TKV_TEST_H

#ifdef NDEBUG
#error "tests must not be built with NDEBUG"
#endif

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
};

extern struct test_case *test_cases; /* in reverse order of definition */

#define TEST(case_name)                                                            \
    static void case_name(void);                                                   \
    static struct test_case test_case_##case_name = {#case_name, case_name, NULL}; \
    __attribute__((constructor)) static void test_register_##case_name(void)       \
    {                                                                              \
        test_case_##case_name.next = test_cases;                                   \
        test_cases = &test_case_##case_name;                                       \
    }                                                                              \
    static void case_name(void)

#define TEST_MAIN                        \
    struct test_case *test_cases;        \
    int main(int argc, char **argv)      \
    {                                    \
        return test_run_all(argc, argv); \
    }

#define CHECK(condition)                               \
    do {                                               \
        if (!(condition))                              \
            test_fail(__FILE__, __LINE__, #condition); \
    } while (0)

#define CHECK_EQ(left, right)                                                         \
    do {                                                                              \
        const uint64_t test_left = (uint64_t)(left), test_right = (uint64_t)(right);  \
        if (test_left != test_right) {                                                \
            fprintf(stderr, "  %" PRIu64 " != %" PRIu64 "\n", test_left, test_right); \
            test_fail(__FILE__, __LINE__, #left " == " #right);                       \
        }                                                                             \
    } while (0)

#define CHECK_STR(left, right)                                                 \
    do {                                                                       \
        const char *const test_left = (left), *const test_right = (right);     \
        if (strcmp(test_left, test_right) != 0) {                              \
            fprintf(stderr, "  \"%s\"\n  != \"%s\"\n", test_left, test_right); \
            test_fail(__FILE__, __LINE__, #left " equals " #right);            \
        }                                                                      \
    } while (0)

/* For calls that take `&err`: prints the message when they fail. */
#define CHECK_OK(call)                                                           \
    do {                                                                         \
        const enum tkv_status test_status = (call);                              \
        if (test_status != TKV_OK) {                                             \
            fprintf(stderr, "  status %d: %s\n", (int)test_status, err.message); \
            test_fail(__FILE__, __LINE__, #call " succeeds");                    \
        }                                                                        \
    } while (0)

static inline void test_fail(const char *file, int line, const char *promise)
{
    fprintf(stderr, "%s:%d: not true: %s\n", file, line, promise);
    fflush(NULL);
    abort();
}

static inline int test_is_chosen(const char *name, int argc, char **argv)
{
    int wanted = 0, chosen = 0;

    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-' && strstr(name, argv[i] + 1) != NULL)
            return 0;
        wanted |= argv[i][0] != '-';
        chosen |= argv[i][0] != '-' && strstr(name, argv[i]) != NULL;
    }
    return chosen || !wanted;
}

static inline int test_run_all(int argc, char **argv)
{
    struct test_case *in_order = NULL;
    unsigned passed = 0;

    while (test_cases != NULL) {
        struct test_case *next = test_cases->next;
        test_cases->next = in_order;
        in_order = test_cases;
        test_cases = next;
    }
    for (struct test_case *c = in_order; c != NULL; c = c->next) {
        if (!test_is_chosen(c->name, argc, argv))
            continue;
        printf("%s\n", c->name);
        fflush(stdout);
        c->run();
        passed++;
    }
    printf("%u passed, 0 failed\n", passed);
    return 0;
}

#endif
