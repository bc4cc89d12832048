/* Cancel tokens: from another thread, from a signal handler, and handles that are not tokens. */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

static dp_cancel *token;
static atomic_int reads;

static int64_t endless(void *user, uint8_t *bytes, size_t len)
{
    (void)user;
    memset(bytes, 7, len);
    usleep(1000);
    reads++;
    return (int64_t)len;
}

static dp_status run_until_cancelled(const char *medium)
{
    dp_hooks hooks = {.size = sizeof hooks, .cancel = token};
    dp_backup_options options = {.size = sizeof options, .medium = medium, .hooks = &hooks,
                                 .source_kind = DP_SOURCE_FUNCTION, .source_read = endless,
                                 .mode = DP_WRITE_OVERWRITE, .buffer_size = 4096};
    return dp_backup(&options, NULL);
}

static void *trigger(void *unused)
{
    while (reads < 20)
        usleep(1000);
    CHECK_STATUS(dp_cancel_trigger(token), DP_OK);
    return unused;
}

static void on_signal(int signal)
{
    int before = errno;
    (void)signal;
    if (dp_cancel_trigger(token) != DP_OK || errno != before)
        _exit(3);
}

static void *send_signal(void *unused)
{
    while (reads < 20)
        usleep(1000);
    kill(getpid(), SIGUSR1);
    return unused;
}

static void cancels(const char *medium, void *(*cancel)(void *))
{
    pthread_t thread;
    reads = 0;
    CHECK_STATUS(dp_cancel_new(&token), DP_OK);
    CHECK(pthread_create(&thread, NULL, cancel, NULL) == 0);
    CHECK_STATUS(run_until_cancelled(medium), DP_ERR_CANCELLED);
    CHECK(pthread_join(thread, NULL) == 0);
    /* A token stays cancelled: the next job does not begin. */
    reads = 0;
    CHECK_STATUS(run_until_cancelled(medium), DP_ERR_CANCELLED);
    CHECK(reads == 0);
    CHECK_STATUS(dp_cancel_free(token), DP_OK);
    CHECK_STATUS(run_until_cancelled(medium), DP_ERR_STALE_HANDLE);
}

/* A handle with other bits. */
static dp_cancel *changed(const dp_cancel *handle, uint64_t bits)
{
    return (dp_cancel *)(uintptr_t)((uint64_t)(uintptr_t)handle ^ bits);
}

static void misuse(void)
{
    dp_cancel *made = NULL;
    CHECK_STATUS(dp_cancel_new(NULL), DP_ERR_NULL);
    CHECK_STATUS(dp_cancel_new(&made), DP_OK);
    CHECK_STATUS(dp_cancel_free(NULL), DP_ERR_NULL);
    CHECK_STATUS(dp_cancel_trigger(NULL), DP_ERR_NULL);
    int variable;
    CHECK_STATUS(dp_cancel_free((dp_cancel *)(void *)&variable), DP_ERR_HANDLE_KIND);
    CHECK_STATUS(dp_cancel_trigger(changed(made, (uint64_t)1 << 60)), DP_ERR_HANDLE_KIND);
    CHECK_STATUS(dp_cancel_trigger(changed(made, 1)), DP_ERR_STALE_HANDLE);
    CHECK_STATUS(dp_cancel_trigger(changed(made, (uint64_t)0x800 << 32)), DP_ERR_BAD_HANDLE);
    CHECK_STATUS(dp_cancel_free(changed(made, (uint64_t)0x10 << 32)), DP_ERR_BAD_HANDLE);
    CHECK_STATUS(dp_cancel_free(made), DP_OK);
    CHECK_STATUS(dp_cancel_free(made), DP_ERR_STALE_HANDLE);
    CHECK_STATUS(dp_cancel_trigger(made), DP_ERR_STALE_HANDLE);

    enum { MOST = 1024 };
    static dp_cancel *all[MOST];
    for (int i = 0; i < MOST; i++)
        CHECK_STATUS(dp_cancel_new(&all[i]), DP_OK);
    dp_cancel *more = made;
    CHECK_STATUS(dp_cancel_new(&more), DP_ERR_LIMIT);
    CHECK(more == made);
    for (int i = 0; i < MOST; i++)
        CHECK_STATUS(dp_cancel_free(all[i]), DP_OK);
}

/* The child of a process that has used the library is refused, and does not hang. */
static void forks(void)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dp_cancel *made = NULL;
        int refused = dp_cancel_new(&made) == DP_ERR_FORKED &&
                      dp_verify(NULL, NULL) == DP_ERR_FORKED && dp_error_message(0) && !made;
        _exit(refused ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    misuse();
    cancels(at(argv[1], "thread.tap"), trigger);
    cancels(at(argv[1], "signal.tap"), send_signal);
    forks();
    return 0;
}
