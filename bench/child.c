/* SPDX-License-Identifier: MIT */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const int interrupt_numbers[] = {SIGINT, SIGTERM, SIGHUP};
#define INTERRUPT_COUNT (sizeof interrupt_numbers / sizeof *interrupt_numbers)

static volatile sig_atomic_t interrupted, running; /* a child, or 0 */

static void note_interrupt(int number)
{
    interrupted = number;
    if (running > 0)
        (void)kill((pid_t)running, SIGKILL);
}

void bench_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = note_interrupt, .sa_flags = SA_RESTART};

    for (size_t i = 0; i < INTERRUPT_COUNT; i++)
        (void)sigaction(interrupt_numbers[i], &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that has gone is an error at the end */
}

bool bench_is_interrupted(void)
{
    return interrupted != 0;
}

int bench_child_wait(pid_t child)
{
    int status = -1;

    while (waitpid(child, &status, 0) != child && errno == EINTR)
        ;
    running = 0;
    return status;
}

/* An interrupt comes before the process is there, which then does not begin, or when it is known
 * whom to end. */
pid_t bench_child_begin(void)
{
    sigset_t interrupts, before;
    pid_t child = -1;

    (void)fflush(NULL); /* else a child that fails prints it once more */
    (void)sigemptyset(&interrupts);
    for (size_t i = 0; i < INTERRUPT_COUNT; i++)
        (void)sigaddset(&interrupts, interrupt_numbers[i]);
    (void)sigprocmask(SIG_BLOCK, &interrupts, &before);
    if (!interrupted)
        child = fork();
    if (child > 0)
        running = child;
    if (child == 0) {
        for (size_t i = 0; i < INTERRUPT_COUNT; i++)
            (void)signal(interrupt_numbers[i], SIG_DFL);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return child;
}
