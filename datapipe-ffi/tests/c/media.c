/* Jobs on media of the program: volumes in memory, of records and marks. */
#include "check.h"

#include <errno.h>
#include <unistd.h>

enum { VOLUME = 600000, RESERVE = 5000, MOST_VOLUMES = 64, MOST_ITEMS = 4000 };

struct item {
    size_t len; /* 0 for a mark */
    uint64_t byte;
    uint8_t *bytes;
    int is_damaged;
};

struct volume {
    struct item items[MOST_ITEMS];
    unsigned count;
    uint64_t used;
};

/* A medium. `fails_at` is the record whose write fails, from 1. */
struct medium {
    struct volume *volumes[MOST_VOLUMES];
    unsigned count, writers, readers, syncs, finished, most_volumes, fails_at, records;
    char label[64];
};

struct writer {
    struct medium *medium;
};

struct reader {
    struct medium *medium;
    unsigned volume, next;
    uint64_t is_uncounted;
};

static void clear(struct medium *medium)
{
    for (unsigned v = 0; v < medium->count; v++) {
        for (unsigned i = 0; i < medium->volumes[v]->count; i++)
            free(medium->volumes[v]->items[i].bytes);
        free(medium->volumes[v]);
    }
    medium->count = 0;
}

static void begin_volume(struct medium *medium)
{
    medium->volumes[medium->count] = calloc(1, sizeof(struct volume));
    CHECK(medium->volumes[medium->count]);
    medium->count++;
}

static int64_t content(void *user)
{
    struct medium *medium = user;
    int64_t bytes = 0;
    for (unsigned v = 0; v < medium->count; v++)
        bytes += (int64_t)medium->volumes[v]->used;
    return bytes;
}

static int32_t create(void *user, const dp_medium_writing *writing, void **state)
{
    struct medium *medium = user;
    CHECK(writing->size == sizeof *writing && writing->reserved == 0);
    snprintf(medium->label, sizeof medium->label, "%s", writing->label);
    if (!writing->appends)
        clear(medium);
    if (medium->count == 0)
        begin_volume(medium);
    struct writer *writer = malloc(sizeof *writer);
    CHECK(writer);
    writer->medium = medium;
    *state = writer;
    medium->writers++;
    return DP_ANSWER_OK;
}

/* Adds an item, if the volume has room for it and `keeps` bytes. */
static int32_t add(struct medium *medium, const uint8_t *bytes, size_t len, size_t keeps)
{
    struct volume *volume = medium->volumes[medium->count - 1];
    if (volume->used + len + 8 + keeps > VOLUME || volume->count == MOST_ITEMS)
        return DP_ANSWER_END_OF_VOLUME;
    struct item *item = &volume->items[volume->count++];
    *item = (struct item){.len = len, .byte = volume->used, .bytes = malloc(len + 1)};
    CHECK(item->bytes);
    if (len)
        memcpy(item->bytes, bytes, len);
    volume->used += len + 8;
    return DP_ANSWER_OK;
}

static int32_t write_record(void *state, const dp_record *record, dp_position *position)
{
    struct medium *medium = ((struct writer *)state)->medium;
    struct volume *volume = medium->volumes[medium->count - 1];
    CHECK(record->size == sizeof *record && record->len > 0 && record->len <= 65536);
    if (++medium->records == medium->fails_at)
        return -EIO;
    /* Small records may use what is kept at the end of a volume. */
    position->record = volume->count;
    position->byte = volume->used;
    position->volume = medium->count;
    return add(medium, record->bytes, record->len, record->len > 4096 ? RESERVE : 8);
}

static int32_t write_mark(void *state)
{
    return add(((struct writer *)state)->medium, NULL, 0, 0);
}

static int32_t sync_medium(void *state)
{
    ((struct writer *)state)->medium->syncs++;
    return DP_ANSWER_OK;
}

static int32_t extend(void *state)
{
    struct medium *medium = ((struct writer *)state)->medium;
    if (medium->count == medium->most_volumes)
        return -ENOSPC;
    begin_volume(medium);
    return DP_ANSWER_OK;
}

static int32_t finish(void *state)
{
    ((struct writer *)state)->medium->finished++;
    return DP_ANSWER_OK;
}

static int32_t close_writer(void *state)
{
    ((struct writer *)state)->medium->writers--;
    free(state);
    return 0;
}

static int32_t open_medium(void *user, void **state)
{
    struct medium *medium = user;
    struct reader *reader = calloc(1, sizeof *reader);
    CHECK(reader);
    reader->medium = medium;
    if (medium->count == 0)
        begin_volume(medium);
    medium->readers++;
    *state = reader;
    return DP_ANSWER_OK;
}

static void show_item(const struct reader *reader, unsigned index, dp_item *item)
{
    const struct item *found = &reader->medium->volumes[reader->volume]->items[index];
    item->record = reader->is_uncounted ? UINT64_MAX : index;
    item->byte = found->byte;
    item->volume = reader->volume + 1;
    item->kind = found->is_damaged ? DP_ITEM_DAMAGED : found->len ? DP_ITEM_RECORD : DP_ITEM_MARK;
    item->bytes = found->bytes;
    item->len = found->len;
    item->skipped = found->is_damaged ? found->len + 8 : 0;
}

static int32_t read_item(void *state, dp_item *item)
{
    struct reader *reader = state;
    CHECK(item->size == sizeof *item && item->kind == 0);
    if (reader->next == reader->medium->volumes[reader->volume]->count)
        item->kind = DP_ITEM_END;
    else
        show_item(reader, reader->next++, item);
    return DP_ANSWER_OK;
}

static int32_t read_back(void *state, dp_item *item)
{
    struct reader *reader = state;
    if (reader->next == 0)
        item->kind = DP_ITEM_END;
    else
        show_item(reader, --reader->next, item);
    return DP_ANSWER_OK;
}

static int32_t next_volume(void *state)
{
    struct reader *reader = state;
    if (reader->volume + 1 == reader->medium->count)
        return DP_ANSWER_END;
    reader->volume++;
    reader->next = 0;
    reader->is_uncounted = 0;
    return DP_ANSWER_OK;
}

static int32_t seek(void *state, const dp_position *to)
{
    struct reader *reader = state;
    CHECK(to->size == sizeof *to);
    if (to->volume == 0 || to->volume > reader->medium->count)
        return DP_ANSWER_END;
    const struct volume *volume = reader->medium->volumes[to->volume - 1];
    for (unsigned i = 0; i <= volume->count; i++) {
        uint64_t byte = i == volume->count ? volume->used : volume->items[i].byte;
        if (byte == to->byte) {
            reader->volume = to->volume - 1;
            reader->next = i;
            reader->is_uncounted = 0;
            return DP_ANSWER_OK;
        }
    }
    return DP_ANSWER_END;
}

static int32_t seek_end(void *state, const dp_position *to)
{
    struct reader *reader = state;
    if (to->volume > reader->medium->count)
        return DP_ANSWER_END;
    reader->volume = (to->volume ? to->volume : reader->medium->count) - 1;
    reader->next = reader->medium->volumes[reader->volume]->count;
    reader->is_uncounted = 1;
    return DP_ANSWER_OK;
}

static int32_t close_reader(void *state)
{
    ((struct reader *)state)->medium->readers--;
    free(state);
    return 0;
}

static dp_medium functions(struct medium *medium)
{
    medium->most_volumes = MOST_VOLUMES;
    return (dp_medium){.size = sizeof(dp_medium), .user = medium, .content = content,
                       .create = create, .write = write_record, .write_mark = write_mark,
                       .sync = sync_medium, .extend = extend, .finish = finish,
                       .close_writer = close_writer, .open = open_medium, .read = read_item,
                       .read_back = read_back, .next_volume = next_volume, .seek = seek,
                       .seek_end = seek_end, .close_reader = close_reader,
                       .longest_record = 65536};
}

/* ---- the jobs ---- */

static uint8_t bytes[3000000];

static dp_status back_up(const char *dir, const dp_medium *medium, int32_t mode)
{
    const char *sources[] = {at(dir, "tree")};
    dp_backup_options options = {.size = sizeof options, .medium = "memory",
                                 .medium_kind = DP_MEDIUM_OF_PROGRAM, .medium_functions = medium,
                                 .sources = sources, .source_count = 1, .mode = mode,
                                 .label = "a label", .compression = DP_COMPRESS_NONE,
                                 .buffer_size = 65536};
    return dp_backup(&options, NULL);
}

static int32_t show_problem(void *user, const dp_problem *problem)
{
    (void)user;
    printf("problem: %s: %s\n", problem->path, problem->text);
    return 0;
}

static dp_status restore(const char *dir, const dp_medium *medium, uint32_t archive)
{
    dp_selection selection = {.size = sizeof selection, .archive = archive};
    dp_hooks hooks = {.size = sizeof hooks, .problem = show_problem};
    dp_restore_options options = {.size = sizeof options, .medium = "memory", .hooks = &hooks,
                                  .medium_kind = DP_MEDIUM_OF_PROGRAM, .medium_functions = medium,
                                  .selection = archive ? &selection : NULL,
                                  .destination = at(dir, "restored")};
    dp_status status = dp_restore(&options, NULL);
    if (status == DP_OK)
        check_file(at(dir, "restored/tree/file"), bytes, sizeof bytes);
    unlink(at(dir, "restored/tree/file"));
    rmdir(at(dir, "restored/tree"));
    rmdir(at(dir, "restored"));
    return status;
}

static dp_status verify(const dp_medium *medium)
{
    dp_verify_options options = {.size = sizeof options, .medium = "memory",
                                 .medium_kind = DP_MEDIUM_OF_PROGRAM, .medium_functions = medium};
    return dp_verify(&options, NULL);
}

static int32_t count_archive(void *user, const dp_listed_archive *archive)
{
    *(uint32_t *)user = archive->number;
    return 0;
}

static int32_t count_entry(void *user, const dp_entry *entry)
{
    CHECK(entry->path_len > 0);
    ++*(uint32_t *)user;
    return 0;
}

static void works(const char *dir)
{
    static struct medium memory, copy;
    dp_medium medium = functions(&memory), second = functions(&copy);
    CHECK_STATUS(back_up(dir, &medium, DP_WRITE_NEW), DP_OK);
    CHECK(memory.count > 3 && memory.syncs > 0 && memory.finished == 1 && memory.writers == 0);
    CHECK(strcmp(memory.label, "a label") == 0);
    CHECK_STATUS(restore(dir, &medium, 0), DP_OK);
    CHECK_STATUS(back_up(dir, &medium, DP_WRITE_NEW), DP_ERR_MEDIUM_NOT_EMPTY);
    CHECK_STATUS(back_up(dir, &medium, DP_WRITE_APPEND), DP_OK);

    uint32_t count = 0;
    dp_sessions_options sessions = {.size = sizeof sessions, .medium = "memory",
                                    .medium_kind = DP_MEDIUM_OF_PROGRAM,
                                    .medium_functions = &medium, .archive = count_archive,
                                    .archive_user = &count};
    CHECK_STATUS(dp_sessions(&sessions, NULL), DP_OK);
    CHECK(count == 2);
    CHECK_STATUS(restore(dir, &medium, 1), DP_OK);
    CHECK_STATUS(restore(dir, &medium, 2), DP_OK);
    CHECK_STATUS(verify(&medium), DP_OK);
    count = 0;
    dp_list_options list = {.size = sizeof list, .medium = "memory",
                            .medium_kind = DP_MEDIUM_OF_PROGRAM, .medium_functions = &medium,
                            .entry = count_entry, .entry_user = &count};
    CHECK_STATUS(dp_list(&list, NULL), DP_OK);
    CHECK(count == 2);

    dp_copy_options copying = {.size = sizeof copying, .medium = "memory", .target = "copy",
                               .medium_kind = DP_MEDIUM_OF_PROGRAM, .medium_functions = &medium,
                               .target_kind = DP_MEDIUM_OF_PROGRAM, .target_functions = &second};
    CHECK_STATUS(dp_copy(&copying, NULL), DP_OK);
    CHECK_STATUS(restore(dir, &second, 0), DP_OK);
    /* The source itself is not written, whatever it is called. */
    dp_medium same = medium;
    same.longest_record = 32768;
    copying.target_functions = &same;
    copying.mode = DP_WRITE_OVERWRITE;
    CHECK_STATUS(dp_copy(&copying, NULL), DP_ERR_ARGUMENT);
    CHECK(strstr(dp_error_message(0), "copy: is the source of the copy"));
    copying.mode = DP_WRITE_APPEND;
    CHECK_STATUS(dp_copy(&copying, NULL), DP_ERR_ARGUMENT);
    CHECK(memory.writers == 0 && memory.finished == 2);
    copying.mode = DP_WRITE_NEW;
    copying.target_kind = 0;
    copying.target_functions = NULL;
    copying.target = at(dir, "copy.tap");
    CHECK_STATUS(dp_copy(&copying, NULL), DP_OK);
    CHECK_STATUS(back_up(dir, &medium, DP_WRITE_OVERWRITE), DP_OK);
    CHECK_STATUS(restore(dir, &medium, 0), DP_OK);

    /* Damage is a problem, and the rest is read. */
    memory.volumes[2]->items[memory.volumes[2]->count / 2].is_damaged = 1;
    CHECK_STATUS(verify(&medium), DP_INCOMPLETE);
    CHECK_STATUS(restore(dir, &medium, 0), DP_INCOMPLETE);
    CHECK(memory.readers == 0 && memory.writers == 0 && copy.readers == 0 && copy.writers == 0);
    clear(&memory);
    clear(&copy);
}

static int64_t broken_content(void *user)
{
    (void)user;
    return -EPERM;
}

static int32_t broken(void *state)
{
    (void)state;
    return 77;
}

static int32_t broken_item(void *state, dp_item *item)
{
    (void)state;
    item->kind = 9;
    return DP_ANSWER_OK;
}

/* Positions, lengths and kinds that a faulty medium makes up. */
static uint64_t random_state;

static uint64_t made_up(void)
{
    static const uint64_t values[] = {0, 1, 2, 8, 4096, 1u << 24, (1u << 24) + 1, UINT32_MAX - 1,
                                      UINT32_MAX, INT64_MAX, UINT64_MAX - 1, UINT64_MAX};
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return values[(random_state >> 33) % (sizeof values / sizeof values[0])];
}

/* The items of this medium are those of another one, but about one of 8 numbers is made up. */
static int is_made_up(void)
{
    made_up();
    return (random_state >> 40) % 8 == 0;
}

static int32_t write_anywhere(void *state, const dp_record *record, dp_position *position)
{
    int32_t answer = write_record(state, record, position);
    if (is_made_up())
        position->record = made_up();
    if (is_made_up())
        position->byte = made_up();
    if (is_made_up())
        position->volume = (uint32_t)made_up();
    return answer;
}

static int32_t make_up(dp_item *item)
{
    if (is_made_up())
        item->record = made_up();
    if (is_made_up())
        item->byte = made_up();
    if (is_made_up())
        item->volume = (uint32_t)made_up();
    if (is_made_up())
        item->skipped = made_up();
    if (is_made_up())
        item->kind = DP_ITEM_DAMAGED;
    if (is_made_up() && item->len > 0)
        item->len = made_up() % 2 ? item->len / 2 : 0;
    return DP_ANSWER_OK;
}

static int32_t read_anything(void *state, dp_item *item)
{
    int32_t answer = read_item(state, item);
    return answer ? answer : make_up(item);
}

static int32_t read_anything_back(void *state, dp_item *item)
{
    int32_t answer = read_back(state, item);
    return answer ? answer : make_up(item);
}

/* Numbers that make no sense are errors or damage, and never a panic. */
static void faulty(const char *dir)
{
    static struct medium memory;
    dp_medium medium = functions(&memory), bad = medium;
    bad.read = read_anything;
    bad.read_back = read_anything_back;
    unsigned refused = 0;
    for (unsigned seed = 1; seed <= 12; seed++) {
        random_state = seed;
        bad.write = seed % 2 ? write_anywhere : write_record;
        for (unsigned job = 0; job < 4; job++) {
            dp_status status = job == 0   ? back_up(dir, &bad, DP_WRITE_OVERWRITE)
                               : job == 1 ? verify(&bad)
                               : job == 2 ? back_up(dir, &bad, DP_WRITE_APPEND)
                                          : verify(&medium);
            const char *message = status >= 100 ? dp_error_message(0) : "";
            refused += status >= 100;
            if (strstr(message, "panic") || memory.readers || memory.writers) {
                fprintf(stderr, "seed %u, job %u: %d %s\n", seed, job, status, message);
                exit(1);
            }
        }
    }
    CHECK(refused > 0);
    clear(&memory);
}

static void errors(const char *dir)
{
    static struct medium memory;
    dp_medium medium = functions(&memory), bad = medium;
    bad.content = broken_content;
    CHECK_STATUS(back_up(dir, &bad, DP_WRITE_NEW), DP_ERR_PERMISSION);
    CHECK(dp_error_errno() == EPERM);
    memory.most_volumes = 2;
    CHECK_STATUS(back_up(dir, &medium, DP_WRITE_NEW), DP_ERR_STORAGE_FULL);
    CHECK(strstr(dp_error_message(0), "no other volume"));
    memory.most_volumes = MOST_VOLUMES;
    memory.records = 0;
    memory.fails_at = 10;
    CHECK_STATUS(back_up(dir, &medium, DP_WRITE_OVERWRITE), DP_ERR_SYSTEM);
    CHECK(dp_error_errno() == EIO && strstr(dp_error_message(0), "memory"));
    memory.fails_at = 0;
    bad = medium;
    bad.sync = broken;
    CHECK_STATUS(back_up(dir, &bad, DP_WRITE_OVERWRITE), DP_ERR_MEDIUM);
    CHECK(strstr(dp_error_message(0), "has returned 77"));
    CHECK_STATUS(back_up(dir, &medium, DP_WRITE_OVERWRITE), DP_OK);
    bad = medium;
    bad.read = broken_item;
    CHECK_STATUS(verify(&bad), DP_ERR_MEDIUM);
    CHECK(strstr(dp_error_message(0), "no kind 9"));
    CHECK(memory.readers == 0 && memory.writers == 0);

    bad = medium;
    bad.seek_end = NULL;
    CHECK_STATUS(verify(&bad), DP_ERR_NULL);
    CHECK(strstr(dp_error_message(0), "dp_medium.seek_end"));
    bad = medium;
    bad.longest_record = 1023;
    CHECK_STATUS(verify(&bad), DP_ERR_ARGUMENT);
    bad.longest_record = 0;
    bad.reserved = 1;
    CHECK_STATUS(verify(&bad), DP_ERR_UNSUPPORTED);
    CHECK_STATUS(verify(NULL), DP_ERR_NULL);
    dp_verify_options options = {.size = sizeof options, .medium = "memory",
                                 .medium_functions = &medium};
    CHECK_STATUS(dp_verify(&options, NULL), DP_ERR_ARGUMENT);
    const char *sources[] = {at(dir, "tree")};
    dp_backup_options backup = {.size = sizeof backup, .medium = "memory", .sources = sources,
                                .source_count = 1, .medium_kind = DP_MEDIUM_OF_PROGRAM,
                                .medium_functions = &medium, .volume_size = 1 << 20};
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_ARGUMENT);
    CHECK(strstr(dp_error_message(0), "volume_size is for media in files"));
    clear(&memory);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const char *dir = argv[1];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i >> 7);
    char command[2048];
    snprintf(command, sizeof command, "mkdir '%s/tree'", dir);
    CHECK(system(command) == 0);
    put(at(dir, "tree/file"), bytes, sizeof bytes);
    works(dir);
    errors(dir);
    faulty(dir);
    return 0;
}
