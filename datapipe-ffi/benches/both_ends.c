/* A pipe with both ends in C, the twin of examples/both_ends.rs: `both_ends SIZE BLOCKS FILL` moves
 * BLOCKS blocks of SIZE bytes. With FILL 1 the head writes every byte and the tail reads one of each
 * 64; with FILL 0 no byte is touched. scripts/ffi-bench compares the two. */
#include <datapipe.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ends {
    uint64_t left, sum;
    int fill;
};

static int32_t fill(void *state, dp_output *out)
{
    struct ends *ends = state;
    if (ends->left == 0)
        return DP_ANSWER_END;
    ends->left--;
    if (ends->fill)
        memset(out->bytes, (int)(ends->left & 0xff), out->capacity);
    out->len = out->capacity;
    return DP_ANSWER_OK;
}

static int32_t take(void *state, const dp_block *block)
{
    struct ends *ends = state;
    for (size_t i = 0; ends->fill && i < block->len; i += 64)
        ends->sum += block->bytes[i];
    return DP_ANSWER_OK;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct ends head_state = {strtoull(argv[2], NULL, 10), 0, atoi(argv[3])};
    struct ends tail_state = head_state;
    dp_pipe_options options = {.size = sizeof options, .buffers = 16,
                               .buffer_size = (uint32_t)strtoul(argv[1], NULL, 10)};
    dp_stage head = {.size = sizeof head, .kind = DP_STAGE_HEAD, .fill = fill, .user = &head_state};
    dp_stage tail = {.size = sizeof tail, .kind = DP_STAGE_TAIL, .write = take, .user = &tail_state};
    dp_pipe *pipe;
    dp_pipe_result result = {.size = sizeof result};
    if (dp_pipe_new(&options, &pipe) != DP_OK || dp_pipe_add(pipe, &head) != DP_OK ||
        dp_pipe_add(pipe, &tail) != DP_OK || dp_pipe_start(pipe) != DP_OK ||
        dp_pipe_wait(pipe, DP_FOREVER, &result) != DP_OK) {
        fprintf(stderr, "both_ends: %s\n", dp_error_message(0));
        return 1;
    }
    printf("%llu %llu\n", (unsigned long long)result.bytes_out, (unsigned long long)tail_state.sum);
    return dp_pipe_free(pipe) == DP_OK ? 0 : 1;
}
