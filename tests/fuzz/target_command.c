/* SPDX-License-Identifier: MIT */
/*
 * Any words as the arguments of the command: words are separated by zero bytes.
 *
 * What is accepted has its operands among the arguments, in their order, and its numbers in
 * range; what is not has been complained about, once.
 */
#include "command.h"
#include "complain.h"
#include "fuzz.h"
#include "memory.h"

#include <stdarg.h>

#define WORDS_MAX 24

static unsigned complaints;

/* In the place of tools/complain.c, which prints. */
int complain_usage(const char *format, ...)
{
    char message[1024];
    va_list arguments;

    va_start(arguments, format);
    FUZZ_CHECK(vsnprintf(message, sizeof message, format, arguments) > 0);
    va_end(arguments);
    complaints++;
    return MISUSED;
}

/* A word in memory of its own, exactly. */
static char *take_word(struct fuzz_input *in)
{
    const uint8_t *zero = in->left == 0 ? NULL : memchr(in->at, 0, in->left);
    const struct tkv_slice word =
        fuzz_take(in, zero == NULL ? in->left : (size_t)(zero - in->at));
    char *text = malloc(word.size + 1);

    FUZZ_CHECK(text != NULL);
    if (word.size > 0)
        memcpy(text, word.data, word.size);
    text[word.size] = 0;
    (void)fuzz_take(in, 1);
    return text;
}

static void check_command(const struct command *command, char **words, int count)
{
    int at = 1;

    FUZZ_CHECK((int)command->operand_count + (command->verb != NULL) < count);
    for (size_t i = 0; i < command->operand_count; i++) {
        while (at < count && words[at] != command->operands[i])
            at++;
        FUZZ_CHECK(at++ < count && "operands keep their order");
    }
    FUZZ_CHECK((unsigned)command->durability <= TKV_DURABILITY_NONE);
    FUZZ_CHECK(!has(command, OPTION_BATCH) ||
               (command->batch >= 1 && command->batch <= 1000000));
    FUZZ_CHECK(!has(command, OPTION_TTL_MS) || command->ttl_ms >= 1);
    FUZZ_CHECK(command->directory == NULL || command->directory[0] != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    char *words[WORDS_MAX + 1], *arguments[WORDS_MAX + 1];
    char name[] = "tinykv";
    struct command command;
    int count = 0, code;

    memory_begin();
    words[count++] = name;
    while (in.left > 0 && count < WORDS_MAX)
        words[count++] = take_word(&in);
    words[count] = NULL;
    memcpy(arguments, words, sizeof words);
    complaints = 0;
    code = command_parse(count, arguments, &command);
    FUZZ_CHECK(code == DONE || code == MISUSED);
    FUZZ_CHECK(complaints == (code == DONE ? 0 : 1));
    if (code == DONE)
        check_command(&command, words, count);
    while (count > 1)
        free(words[--count]);
    memory_end(2 * size + 64 * WORDS_MAX);
    return 0;
}
