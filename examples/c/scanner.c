/*
 * A virus scanner as a stage of a pipe: reads standard input, looks for a signature in each block,
 * and writes to standard output. Blocks with the signature lose their content.
 *
 *     cc -o scanner scanner.c $(pkg-config --cflags --libs datapipe)
 *     scanner SIGNATURE < FILE > CLEAN
 *
 * Each instance has its own state, as a scanner's engine is rarely safe for several threads. A
 * signature that begins in one block and ends in the next one is not found: a real scanner keeps
 * the end of a block, in a stage of one instance.
 *
 * Exit codes: 0 if nothing was found, 1 for a failure, 2 for wrong usage, 3 if blocks were rejected.
 */
#include <datapipe.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static dp_cancel *token;

static void on_signal(int signal)
{
    (void)signal;
    dp_cancel_trigger(token); /* safe in a signal handler */
}

/* The engine of one instance: for each byte, the distance by which the search may go on. */
struct engine {
    const unsigned char *signature;
    size_t len, skip[256];
};

static int32_t make_engine(void *user, uint32_t instance, void **state)
{
    struct engine *engine = malloc(sizeof *engine);
    (void)instance;
    if (!engine)
        return -ENOMEM;
    engine->signature = user;
    engine->len = strlen(user);
    for (size_t i = 0; i < 256; i++)
        engine->skip[i] = engine->len;
    for (size_t i = 0; i + 1 < engine->len; i++)
        engine->skip[engine->signature[i]] = engine->len - 1 - i;
    *state = engine;
    return DP_ANSWER_OK;
}

static int32_t drop_engine(void *state)
{
    free(state);
    return DP_ANSWER_OK;
}

/* Searches by the algorithm of Horspool. */
static int32_t scan(void *state, const dp_block *block)
{
    const struct engine *engine = state;
    size_t last = engine->len - 1;
    for (size_t at = last; at < block->len; at += engine->skip[block->bytes[at]])
        if (memcmp(block->bytes + at - last, engine->signature, engine->len) == 0)
            return DP_ANSWER_REJECT;
    return DP_ANSWER_OK;
}

static dp_status add(dp_pipe *pipe, dp_stage stage)
{
    stage.size = sizeof stage;
    return dp_pipe_add(pipe, &stage);
}

static dp_status run(char *signature, dp_pipe_result *result)
{
    dp_pipe_options options = {.size = sizeof options, .label = "scan", .cancel = token};
    dp_pipe *pipe;
    dp_status status = dp_pipe_new(&options, &pipe);
    if (status != DP_OK)
        return status;
    status = add(pipe, (dp_stage){.kind = DP_STAGE_READ_DESCRIPTOR, .descriptor = STDIN_FILENO});
    if (status == DP_OK)
        status = add(pipe, (dp_stage){.kind = DP_STAGE_INSPECT, .name = "scanner",
                                      .inspect = scan, .make = make_engine, .drop = drop_engine,
                                      .user = signature, .instances = 4});
    if (status == DP_OK)
        status = add(pipe, (dp_stage){.kind = DP_STAGE_WRITE_DESCRIPTOR,
                                      .descriptor = STDOUT_FILENO});
    if (status == DP_OK)
        status = dp_pipe_start(pipe);
    if (status == DP_OK)
        status = dp_pipe_wait(pipe, DP_FOREVER, result);
    dp_pipe_free(pipe);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 2 || !*argv[1] || dp_version_check(DP_VERSION) != DP_OK) {
        fputs("usage: scanner SIGNATURE < FILE > CLEAN\n", stderr);
        return 2;
    }
    if (dp_cancel_new(&token) != DP_OK) {
        fprintf(stderr, "scanner: %s\n", dp_error_message(0));
        return 1;
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);

    dp_pipe_result result = {.size = sizeof result};
    dp_status status = run(argv[1], &result);
    if (status >= 100)
        fprintf(stderr, "scanner: %s\n", dp_error_message(0));
    else
        fprintf(stderr, "scanner: %" PRIu64 " bytes, %" PRIu64 " blocks rejected\n",
                result.bytes_in, result.rejected);
    dp_cancel_free(token);
    return status == DP_OK ? 0 : status == DP_INCOMPLETE ? 3 : 1;
}
