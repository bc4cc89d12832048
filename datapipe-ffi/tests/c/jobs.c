/* Whole jobs: backup, list, verify, restore, copy and append of trees and streams. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct seen {
    unsigned entries, files, problems, progress;
    int last_problem;
    char target[64];
};

static int32_t on_progress(void *user, const dp_progress *progress)
{
    struct seen *seen = user;
    CHECK(progress->size == sizeof *progress);
    seen->progress++;
    return 0;
}

static int32_t on_problem(void *user, const dp_problem *problem)
{
    struct seen *seen = user;
    CHECK(problem->size == sizeof *problem && strlen(problem->path) == problem->path_len);
    CHECK(strlen(problem->text) > 0);
    seen->problems++;
    seen->last_problem = problem->kind;
    return 0;
}

static int32_t on_entry(void *user, const dp_entry *entry)
{
    struct seen *seen = user;
    CHECK(entry->size == sizeof *entry && strlen(entry->path) == entry->path_len);
    CHECK(strlen(entry->target) == entry->target_len && entry->modified_seconds > 0);
    seen->entries++;
    seen->files += entry->kind == DP_OBJECT_FILE;
    if (entry->kind == DP_OBJECT_SYMLINK)
        snprintf(seen->target, sizeof seen->target, "%s", entry->target);
    CHECK(entry->state == DP_STATE_WHOLE);
    return 0;
}

static void make_tree(const char *root)
{
    static char large[3000000];
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * i >> 7);
    CHECK(mkdir(root, 0755) == 0 && mkdir(at(root, "sub"), 0750) == 0);
    put(at(root, "large"), large, sizeof large);
    put(at(root, "sub/small"), "content", 7);
    put(at(root, "sub/temp.o"), "object", 6);
    CHECK(symlink("sub/small", at(root, "link")) == 0);
}

static void check_tree(const char *root)
{
    struct stat found;
    check_file(at(root, "sub/small"), "content", 7);
    CHECK(stat(at(root, "large"), &found) == 0 && found.st_size == 3000000);
    CHECK(lstat(at(root, "link"), &found) == 0 && S_ISLNK(found.st_mode));
    CHECK(stat(at(root, "sub"), &found) == 0 && (found.st_mode & 07777) == 0750);
    CHECK(access(at(root, "sub/temp.o"), F_OK) == -1 && errno == ENOENT);
}

static void back_up_and_restore(const char *dir, const char *medium, const dp_secret *secret)
{
    struct seen seen = {0};
    dp_hooks hooks = {.size = sizeof hooks, .user = &seen, .progress = on_progress,
                      .problem = on_problem, .progress_interval_ms = 1};
    const char *sources[] = {at(dir, "tree")}, *exclude[] = {"*.o"};
    dp_backup_options backup = {.size = sizeof backup, .medium = medium, .sources = sources,
                                .source_count = 1, .exclude = exclude, .exclude_count = 1,
                                .secret = secret, .hooks = &hooks, .label = "of a test",
                                .program = "jobs.c 1", .instances = 2, .buffers = 24,
                                .buffer_size = 65536};
    dp_backup_result written = {.size = sizeof written};
    CHECK_STATUS(dp_backup(&backup, &written), DP_OK);
    CHECK(written.files == 2 && written.directories == 2 && written.others == 1);
    CHECK(written.excluded == 1 && written.problems == 0 && written.volumes == 1);
    CHECK(written.bytes_in > 3000000 && written.elapsed_ns > 0 && seen.progress > 0);

    /* The same medium again is refused, and the result is not touched. */
    written.files = 77;
    CHECK_STATUS(dp_backup(&backup, &written), DP_ERR_MEDIUM_NOT_EMPTY);
    CHECK(written.files == 77 && strstr(dp_error_message(0), medium));
    backup.mode = DP_WRITE_OVERWRITE;
    CHECK_STATUS(dp_backup(&backup, &written), DP_OK);
    CHECK(written.files == 2);

    dp_selection selection = {.size = sizeof selection, .name = "tree",
                              .header_hash = written.header_hash};
    dp_list_options list = {.size = sizeof list, .medium = medium, .secret = secret,
                            .selection = &selection, .entry = on_entry, .entry_user = &seen,
                            .hooks = &hooks};
    dp_read_result read = {.size = sizeof read};
    CHECK_STATUS(dp_list(&list, &read), DP_OK);
    CHECK(seen.entries == 5 && seen.files == 2 && read.files == 2 && read.directories == 2);
    CHECK(strcmp(seen.target, "sub/small") == 0);
    CHECK(memcmp(read.header_hash, written.header_hash, 32) == 0);
    CHECK(read.authenticated == (secret != NULL));

    /* A path that is not there is a problem, and the other one is listed. */
    const char *paths[] = {"tree/sub", "tree/nothing"};
    list.paths = paths;
    list.path_count = 2;
    seen.entries = 0;
    CHECK_STATUS(dp_list(&list, &read), DP_INCOMPLETE);
    CHECK(seen.entries == 2 && seen.problems == 1 && read.problems == 1);
    CHECK(seen.last_problem == DP_PROBLEM_NOT_FOUND);

    dp_verify_options verify = {.size = sizeof verify, .medium = medium, .secret = secret};
    CHECK_STATUS(dp_verify(&verify, &read), DP_OK);
    CHECK(read.files == 2 && read.complete == 1 && read.damaged == 0);

    dp_restore_options restore = {.size = sizeof restore, .medium = medium, .secret = secret,
                                  .destination = at(dir, "restored"), .hooks = &hooks};
    CHECK_STATUS(dp_restore(&restore, &read), DP_OK);
    CHECK(read.files == 2 && read.directories == 2 && read.others == 1 && read.complete == 1);
    check_tree(at(dir, "restored/tree"));

    /* What exists stays, and is reported. */
    seen.problems = 0;
    CHECK_STATUS(dp_restore(&restore, &read), DP_INCOMPLETE);
    CHECK(seen.problems > 0 && seen.last_problem == DP_PROBLEM_NOT_RESTORED);
    restore.flags = DP_RESTORE_OVERWRITE;
    CHECK_STATUS(dp_restore(&restore, NULL), DP_OK);

    restore.destination = at(dir, "part");
    restore.paths = paths;
    restore.path_count = 1;
    CHECK_STATUS(dp_restore(&restore, &read), DP_OK);
    CHECK(read.files == 1);
    check_file(at(dir, "part/tree/sub/small"), "content", 7);
    CHECK(access(at(dir, "part/tree/large"), F_OK) == -1);
}

struct stream {
    size_t at, len;
    char bytes[200000];
};

static int64_t read_stream(void *user, uint8_t *bytes, size_t len)
{
    struct stream *stream = user;
    size_t rest = stream->len - stream->at, count = rest < len ? rest : len;
    count = count > 777 ? 777 : count;
    memcpy(bytes, stream->bytes + stream->at, count);
    stream->at += count;
    return (int64_t)count;
}

static int64_t write_stream(void *user, const uint8_t *bytes, size_t len)
{
    struct stream *stream = user;
    size_t count = len > 999 ? 999 : len;
    CHECK(stream->at + count <= sizeof stream->bytes);
    memcpy(stream->bytes + stream->at, bytes, count);
    stream->at += count;
    return (int64_t)count;
}

static void streams(const char *dir)
{
    static struct stream in, out;
    in.len = sizeof in.bytes;
    for (size_t i = 0; i < in.len; i++)
        in.bytes[i] = (char)(i >> 3);
    const char *medium = at(dir, "streams.tap");
    dp_backup_options backup = {.size = sizeof backup, .medium = medium, .name = "of a function",
                                .source_kind = DP_SOURCE_FUNCTION, .source_read = read_stream,
                                .source_user = &in, .compression = DP_COMPRESS_DEFLATE,
                                .level = 1};
    dp_backup_result written = {.size = sizeof written};
    CHECK_STATUS(dp_backup(&backup, &written), DP_OK);
    CHECK(written.bytes_in == sizeof in.bytes);

    /* The second archive of the medium comes from a descriptor. */
    put(at(dir, "file"), in.bytes, 5000);
    int file = open(at(dir, "file"), O_RDONLY);
    backup.name = "of a descriptor";
    backup.source_kind = DP_SOURCE_DESCRIPTOR;
    backup.source_read = NULL;
    backup.source_descriptor = file;
    backup.compression = DP_COMPRESS_NONE;
    backup.level = 0;
    backup.mode = DP_WRITE_APPEND;
    CHECK_STATUS(dp_backup(&backup, &written), DP_OK);
    CHECK(written.bytes_in == 5000 && close(file) == 0);

    dp_selection selection = {.size = sizeof selection, .session = 1};
    dp_restore_options restore = {.size = sizeof restore, .medium = medium,
                                  .selection = &selection, .target_kind = DP_TARGET_FUNCTION,
                                  .target_write = write_stream, .target_user = &out};
    CHECK_STATUS(dp_restore(&restore, NULL), DP_OK);
    CHECK(out.at == sizeof in.bytes && memcmp(in.bytes, out.bytes, out.at) == 0);

    /* A copy of the second one, which is the last and so needs no selection. */
    const char *copy = at(dir, "copy/");
    dp_copy_options copying = {.size = sizeof copying, .medium = medium, .target = copy};
    dp_copy_result copied = {.size = sizeof copied};
    CHECK_STATUS(dp_copy(&copying, &copied), DP_OK);
    CHECK(memcmp(copied.header_hash, written.header_hash, 32) == 0 && copied.volumes == 1);
    CHECK_STATUS(dp_copy(&copying, &copied), DP_ERR_MEDIUM_NOT_EMPTY);
    copying.mode = DP_WRITE_APPEND;
    selection.session = 0;
    selection.name = "of a function";
    copying.selection = &selection;
    CHECK_STATUS(dp_copy(&copying, &copied), DP_OK);

    file = open(at(dir, "back"), O_RDWR | O_CREAT, 0600);
    selection.name = "of a descriptor";
    restore.medium = copy;
    restore.target_kind = DP_TARGET_DESCRIPTOR;
    restore.target_descriptor = file;
    CHECK_STATUS(dp_restore(&restore, NULL), DP_OK);
    CHECK(close(file) == 0);
    check_file(at(dir, "back"), in.bytes, 5000);

    struct seen seen = {0};
    dp_list_options list = {.size = sizeof list, .medium = copy, .selection = &selection,
                            .entry = on_entry, .entry_user = &seen};
    CHECK_STATUS(dp_list(&list, NULL), DP_OK);
    CHECK(seen.entries == 1 && seen.files == 1);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const char *dir = argv[1];
    CHECK_STATUS(dp_version_check(DP_VERSION), DP_OK);
    CHECK(dp_version() == DP_VERSION && dp_error_count() == 0 && dp_error_message(0) == NULL);
    make_tree(at(dir, "tree"));
    back_up_and_restore(dir, at(dir, "plain.tap"), NULL);

    const char *restored[] = {at(dir, "restored"), at(dir, "part")};
    for (int i = 0; i < 2; i++) {
        char moved[4096];
        snprintf(moved, sizeof moved, "%s.plain", restored[i]);
        CHECK(rename(restored[i], moved) == 0);
    }
    dp_secret secret = {.size = sizeof secret, .kind = DP_SECRET_KEY, .bytes_len = 32,
                        .bytes = (const uint8_t *)"0123456789abcdef0123456789abcdef"};
    CHECK(mkdir(at(dir, "volumes"), 0755) == 0);
    back_up_and_restore(dir, at(dir, "volumes"), &secret);

    /* Without the key an encrypted archive is checked, and nothing is authenticated. */
    dp_verify_options verify = {.size = sizeof verify, .medium = at(dir, "volumes")};
    dp_read_result read = {.size = sizeof read};
    CHECK_STATUS(dp_verify(&verify, &read), DP_OK);
    CHECK(read.authenticated == 0 && read.complete == 1);
    streams(dir);
    return 0;
}
