/* Random calls from several threads, with handles that are valid, freed, NULL and foreign, and with
 * structs of random bytes: each is answered, and none of them crashes. DATAPIPE_SEED sets the seed,
 * DATAPIPE_CALLS the number of calls of a thread. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 4, TOKENS = 16 };

static _Atomic(dp_cancel *) tokens[TOKENS];
static _Atomic(dp_pipe *) pipes[TOKENS];
static const char *dir;
static uint64_t seed;
static unsigned long calls = 1000;

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545f4914f6cdd1d;
}

static dp_cancel *any_token(uint64_t *state)
{
    switch (next(state) % 8) {
    case 0:
        return NULL;
    case 1:
        return (dp_cancel *)(uintptr_t)next(state);
    default:
        return tokens[next(state) % TOKENS];
    }
}

/* Numbers that are rarely right. Pointers in a struct must be valid, so they stay as they are. */
static void verify(uint64_t *state)
{
    static const char *names[] = {"nothing", "text", "", NULL};
    dp_hooks hooks = {.size = next(state) % 4 ? sizeof hooks : next(state) % 200,
                      .cancel = any_token(state),
                      .reserved = next(state) % 4 ? 0 : (uint32_t)next(state)};
    dp_verify_options options = {.size = next(state) % 4 ? sizeof options : next(state) % 100,
                                 .medium = names[next(state) % 4],
                                 .hooks = next(state) % 2 ? &hooks : NULL,
                                 .medium_kind = (int32_t)(next(state) % 5) - 1,
                                 .instances = (uint32_t)next(state)};
    if (options.medium && *options.medium)
        options.medium = next(state) % 2 ? dir : options.medium;
    /* The library reads as many bytes as a size says: here at most those that there are. */
    if (options.size > sizeof options)
        options.size = sizeof options;
    if (hooks.size > sizeof hooks)
        hooks.size = sizeof hooks;
    dp_read_result result = {.size = next(state) % 2 ? sizeof result : next(state) % 128};
    dp_status status = dp_verify(next(state) % 16 ? &options : NULL,
                                 next(state) % 2 ? &result : NULL);
    CHECK(status >= 100 && status < DP_ERR_PANIC);
    CHECK(dp_error_status() == status && dp_error_message(0) != NULL);
}

static atomic_uint fills;

static int32_t fill(void *user, dp_output *out)
{
    (void)user;
    out->len = out->capacity < 64 ? out->capacity : 64;
    return fills++ % 8 ? DP_ANSWER_OK : DP_ANSWER_END;
}

static int32_t take(void *user, const dp_block *block)
{
    (void)user;
    (void)block;
    return DP_ANSWER_OK;
}

static dp_status any_pipe_call(uint64_t *state)
{
    dp_pipe *pipe = next(state) % 8 ? pipes[next(state) % TOKENS]
                                    : (dp_pipe *)(uintptr_t)(next(state) >> next(state) % 64);
    int32_t kinds[] = {DP_STAGE_HEAD, DP_STAGE_TAIL, DP_STAGE_ZSTD, (int32_t)next(state)};
    dp_stage stage = {.size = sizeof stage, .kind = kinds[next(state) % 4], .fill = fill,
                      .write = take, .instances = next(state) % 3};
    dp_pipe_options options = {.size = sizeof options, .buffer_size = 512, .buffers = 16,
                               .cancel = next(state) % 2 ? any_token(state) : NULL};
    dp_pipe_status now = {.size = sizeof now};
    dp_pipe *made = NULL;
    switch (next(state) % 8) {
    case 0: {
        dp_status status = dp_pipe_new(&options, &made);
        CHECK((status == DP_OK) == (made != NULL));
        if (made)
            dp_pipe_free(atomic_exchange(&pipes[next(state) % TOKENS], made));
        return status;
    }
    case 1:
    case 2:
    case 3:
        return dp_pipe_add(pipe, &stage);
    case 4:
        return dp_pipe_start(pipe);
    case 5:
        return dp_pipe_cancel(pipe);
    case 6:
        return dp_pipe_get_status(pipe, &now);
    default: {
        dp_status status = dp_pipe_wait(pipe, next(state) % 3, NULL);
        return status == DP_TIMED_OUT ? DP_OK : status;
    }
    }
}

static void *run(void *number)
{
    uint64_t state = seed + 77 * (uint64_t)(uintptr_t)number + 1;
    for (unsigned long i = 0; i < calls; i++) {
        dp_cancel *made = NULL;
        dp_status status = DP_OK;
        switch (next(&state) % 9) {
        case 0:
        case 1:
            status = dp_cancel_new(&made);
            CHECK((status == DP_OK) == (made != NULL));
            if (made)
                dp_cancel_free(atomic_exchange(&tokens[next(&state) % TOKENS], made));
            break;
        case 2:
            status = dp_cancel_trigger(any_token(&state));
            break;
        case 3:
            status = dp_cancel_free(any_token(&state));
            break;
        case 4:
            verify(&state);
            break;
        case 5:
            CHECK(dp_status_name((dp_status)next(&state)) != NULL);
            (void)dp_version_check((uint32_t)next(&state));
            break;
        case 6:
            (void)dp_error_message((size_t)next(&state) % 8);
            CHECK(dp_error_message(dp_error_count()) == NULL);
            break;
        case 7:
            status = any_pipe_call(&state);
            break;
        default:
            status = dp_log_set(NULL, NULL, (int32_t)(next(&state) % 6) - 1);
            break;
        }
        CHECK(status == DP_OK || (status >= 100 && status < DP_ERR_PANIC));
    }
    return NULL;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    dir = argv[1];
    const char *given = getenv("DATAPIPE_SEED"), *number = getenv("DATAPIPE_CALLS");
    seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    calls = number ? strtoul(number, NULL, 0) : calls;
    printf("DATAPIPE_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(uintptr_t)i) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < TOKENS; i++) {
        dp_cancel_free(tokens[i]);
        dp_pipe_free(pipes[i]);
    }
    /* All tokens are free again: the table can be filled. */
    dp_cancel *all[1024];
    for (int i = 0; i < 1024; i++)
        CHECK_STATUS(dp_cancel_new(&all[i]), DP_OK);
    for (int i = 0; i < 1024; i++)
        CHECK_STATUS(dp_cancel_free(all[i]), DP_OK);
    return 0;
}
