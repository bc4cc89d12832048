/* Many pipes, one after the other: the process has as many threads, descriptors and mappings at the
 * end as after the first ones, and no more memory. DATAPIPE_PIPES is their number. */
#include "check.h"

#include <dirent.h>
#include <unistd.h>

static unsigned entries(const char *directory)
{
    DIR *dir = opendir(directory);
    CHECK(dir);
    unsigned count = 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

struct use {
    unsigned threads, descriptors, mappings;
    unsigned long resident; /* in pages */
};

static struct use now(void)
{
    struct use use = {.threads = entries("/proc/self/task"), .descriptors = entries("/proc/self/fd")};
    FILE *maps = fopen("/proc/self/maps", "r"), *statm = fopen("/proc/self/statm", "r");
    CHECK(maps && statm && fscanf(statm, "%*u %lu", &use.resident) == 1);
    for (int c; (c = getc(maps)) != EOF;)
        use.mappings += c == '\n';
    fclose(maps);
    fclose(statm);
    return use;
}

static int32_t fill(void *state, dp_output *out)
{
    unsigned *blocks = state;
    if (*blocks == 3)
        return DP_ANSWER_END;
    ++*blocks;
    memset(out->bytes, 'x', out->capacity);
    out->len = out->capacity;
    return DP_ANSWER_OK;
}

static int32_t transform(void *state, const dp_block *block, dp_output *out)
{
    (void)state;
    memcpy(out->bytes, block->bytes, block->len);
    out->len = block->len;
    return DP_ANSWER_OK;
}

static int32_t take(void *state, const dp_block *block)
{
    (void)state;
    return block->number == 1 ? -5 : DP_ANSWER_OK;
}

static int32_t take_all(void *state, const dp_block *block)
{
    (void)state;
    (void)block;
    return DP_ANSWER_OK;
}

/* Runs a pipe in one of four ways: to its end, to a failure, cancelled, freed without a wait. */
static void run(unsigned number)
{
    unsigned blocks = 0;
    dp_pipe_options options = {.size = sizeof options, .label = "one of many",
                               .buffer_size = 4096};
    dp_stage head = {.size = sizeof head, .kind = DP_STAGE_HEAD, .fill = fill, .user = &blocks};
    dp_stage middle = {.size = sizeof middle, .kind = DP_STAGE_TRANSFORM, .instances = 2,
                       .transform = transform};
    dp_stage tail = {.size = sizeof tail, .kind = DP_STAGE_TAIL,
                     .write = number % 4 == 1 ? take : take_all};
    dp_pipe *pipe;
    CHECK_STATUS(dp_pipe_new(&options, &pipe), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &head), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &middle), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &tail), DP_OK);
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    if (number % 4 == 2)
        CHECK_STATUS(dp_pipe_cancel(pipe), DP_OK);
    if (number % 4 == 0)
        CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), DP_OK);
    if (number % 4 == 1)
        CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), DP_ERR_SYSTEM);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2 && argv[1]);
    const char *given = getenv("DATAPIPE_PIPES");
    unsigned pipes = given ? (unsigned)strtoul(given, NULL, 10) : 400, warm = pipes / 4;
    for (unsigned i = 0; i < warm; i++)
        run(i);
    struct use before = now();
    for (unsigned i = warm; i < pipes; i++)
        run(i);
    struct use after = now();
    printf("%u pipes: threads %u, then %u; descriptors %u, then %u; resident pages %lu, then %lu; "
           "mappings %u, then %u\n", pipes, before.threads, after.threads, before.descriptors,
           after.descriptors, before.resident,
           after.resident, before.mappings, after.mappings);
    /* A thread that was joined can be listed for a moment: after the first ones, or now. */
    for (int i = 0; i < 1000 && after.threads > before.threads; i++, after = now())
        usleep(1000);
    CHECK(after.threads <= before.threads && after.descriptors == before.descriptors);
    /* The allocator keeps an arena for each thread that it has seen at once, up to a number of them;
     * a leak of one page, descriptor or mapping in each pipe is far beyond this. */
    CHECK(after.mappings <= before.mappings + 40);
    CHECK(after.resident <= before.resident + (pipes - warm) / 2);
    return 0;
}
