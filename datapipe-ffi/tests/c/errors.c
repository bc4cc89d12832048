/* Each way in which a call is refused or fails: its status, its message, and no result. */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *dir, *tree;

static int32_t ends_list(void *user, const dp_entry *entry)
{
    (void)entry;
    return *(int32_t *)user;
}

static int32_t cancels(void *user, const dp_progress *progress)
{
    (void)user;
    (void)progress;
    return 1;
}

static int64_t fails(void *user, uint8_t *bytes, size_t len)
{
    (void)bytes;
    (void)len;
    return *(int64_t *)user;
}

static int64_t endless(void *user, uint8_t *bytes, size_t len)
{
    (void)user;
    memset(bytes, 7, len);
    usleep(1000);
    return (int64_t)len;
}

static dp_backup_options backup_of(const char *medium)
{
    dp_backup_options options = {.size = sizeof options, .medium = medium, .sources = &tree,
                                 .source_count = 1, .instances = 1, .buffer_size = 65536};
    return options;
}

#define REFUSED(status, field, value)                                                              \
    do {                                                                                           \
        dp_backup_options options = backup_of(at(dir, "refused.tap"));                             \
        options.field = value;                                                                     \
        CHECK_STATUS(dp_backup(&options, NULL), status);                                           \
        CHECK(dp_error_status() == (status) && strlen(dp_error_message(0)) > 10);                  \
        CHECK(access(at(dir, "refused.tap"), F_OK) == -1);                                         \
    } while (0)

static void arguments(void)
{
    CHECK_STATUS(dp_backup(NULL, NULL), DP_ERR_NULL);
    REFUSED(DP_ERR_NULL, medium, NULL);
    REFUSED(DP_ERR_ARGUMENT, medium, "");
    REFUSED(DP_ERR_ARGUMENT, medium_kind, 99);
    REFUSED(DP_ERR_ARGUMENT, medium_kind, -1);
    REFUSED(DP_ERR_ARGUMENT, mode, 3);
    REFUSED(DP_ERR_ARGUMENT, source_kind, 3);
    REFUSED(DP_ERR_ARGUMENT, source_count, 0);
    REFUSED(DP_ERR_ARGUMENT, source_count, (size_t)-1);
    REFUSED(DP_ERR_NULL, sources, NULL);
    const char *hole[] = {NULL}, *empty[] = {""}, *latin[] = {"\xe4"};
    REFUSED(DP_ERR_NULL, sources, hole);
    REFUSED(DP_ERR_ARGUMENT, sources, empty);
    REFUSED(DP_ERR_NOT_FOUND, sources, latin);
    CHECK(dp_error_errno() == ENOENT && dp_error_count() >= 2);
    CHECK(dp_error_message(dp_error_count()) == NULL && dp_error_message((size_t)-1) == NULL);
    /* Names in messages are escaped: each message is one line, and sends no commands to a terminal. */
    const char *lines[] = {"two\nlines \x1b[31m"};
    REFUSED(DP_ERR_NOT_FOUND, sources, lines);
    for (size_t i = 0; i < dp_error_count(); i++)
        CHECK(strpbrk(dp_error_message(i), "\n\x1b") == NULL);
    CHECK(strstr(dp_error_message(0), "two\\nlines \\u{1b}[31m"));
    REFUSED(DP_ERR_ARGUMENT, name, "\xe4");
    CHECK(dp_error_errno() == 0);
    REFUSED(DP_ERR_ARGUMENT, compression, 4);
    REFUSED(DP_ERR_ARGUMENT, level, 23);
    REFUSED(DP_ERR_ARGUMENT, level, -1);
    REFUSED(DP_ERR_ARGUMENT, framing, 4);
    REFUSED(DP_ERR_ARGUMENT, flags, 1u << 31);
    REFUSED(DP_ERR_ARGUMENT, flags, DP_BACKUP_IN_PLACE);
    REFUSED(DP_ERR_ARGUMENT, flags, DP_BACKUP_OTHER_KEY);
    REFUSED(DP_ERR_ARGUMENT, volume_size, 1);
    REFUSED(DP_ERR_ARGUMENT, label, "0123456789012345678901234567890123456789012345678901234567890123-");
    REFUSED(DP_ERR_REFUSED, instances, 65);
    REFUSED(DP_ERR_REFUSED, buffers, 1);
    REFUSED(DP_ERR_REFUSED, buffer_size, 100);

    dp_backup_options options = backup_of(at(dir, "refused.tap"));
    options.source_kind = DP_SOURCE_DESCRIPTOR;
    CHECK_STATUS(dp_backup(&options, NULL), DP_ERR_ARGUMENT);
    options.source_count = 0;
    options.source_descriptor = -1;
    CHECK_STATUS(dp_backup(&options, NULL), DP_ERR_SYSTEM);
    CHECK(dp_error_errno() == EBADF);
    options.source_kind = DP_SOURCE_FUNCTION;
    CHECK_STATUS(dp_backup(&options, NULL), DP_ERR_ARGUMENT);
    dp_backup_options self = backup_of(tree);
    self.medium_kind = DP_MEDIUM_VIRTUAL_TAPE;
    CHECK_STATUS(dp_backup(&self, NULL), DP_ERR_ARGUMENT);
}

/* Structs of other versions, and pointers that are not structs. */
static void sizes(void)
{
    dp_backup_options options = backup_of(at(dir, "sizes.tap"));
    size_t wrong[] = {0, 1, sizeof options - 1, (size_t)1 << 20, (size_t)-1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.size = wrong[i];
        CHECK_STATUS(dp_backup(&options, NULL), DP_ERR_STRUCT_SIZE);
        CHECK(strstr(dp_error_message(0), "sizeof(dp_backup_options)"));
    }
    struct {
        dp_backup_options known;
        uint64_t later[2];
    } grown = {backup_of(at(dir, "sizes.tap")), {0, 0}};
    struct {
        dp_backup_result known;
        uint64_t later[2];
    } result = {{.size = sizeof result}, {5, 6}};
    grown.known.size = sizeof grown;
    grown.later[1] = 1;
    CHECK_STATUS(dp_backup(&grown.known, &result.known), DP_ERR_UNSUPPORTED);
    CHECK(result.later[0] == 5 && result.later[1] == 6);
    grown.later[1] = 0;
    CHECK_STATUS(dp_backup(&grown.known, &result.known), DP_OK);
    CHECK(result.known.size == sizeof result && result.later[0] == 0 && result.later[1] == 0);

    uint64_t words[sizeof options / 8 + 1];
    options = backup_of(at(dir, "unaligned.tap"));
    memcpy((char *)words + 1, &options, sizeof options);
    uintptr_t unaligned = (uintptr_t)words + 1;
    CHECK_STATUS(dp_backup((const dp_backup_options *)unaligned, NULL), DP_ERR_ARGUMENT);

    dp_hooks hooks = {.size = sizeof hooks, .reserved = 1};
    options.hooks = &hooks;
    CHECK_STATUS(dp_backup(&options, NULL), DP_ERR_UNSUPPORTED);
    hooks.size = 3;
    CHECK_STATUS(dp_backup(&options, NULL), DP_ERR_STRUCT_SIZE);
    CHECK(strstr(dp_error_message(0), "dp_hooks"));
    dp_read_result read = {.size = 3};
    dp_verify_options verify = {.size = sizeof verify, .medium = at(dir, "sizes.tap")};
    CHECK_STATUS(dp_verify(&verify, &read), DP_ERR_STRUCT_SIZE);
}

static void keys(void)
{
    dp_secret secret = {.size = sizeof secret, .kind = DP_SECRET_KEY, .bytes_len = 31,
                        .bytes = (const uint8_t *)"0123456789abcdef0123456789abcdef"};
    dp_backup_options backup = backup_of(at(dir, "keys.tap"));
    backup.secret = &secret;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_ARGUMENT);
    secret.bytes_len = 32;
    secret.kind = 0;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_ARGUMENT);
    secret.kind = DP_SECRET_IDENTITY;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_ARGUMENT);
    secret.kind = DP_SECRET_KEY_FILE;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_NULL);
    secret.path = at(dir, "no-key");
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_NOT_FOUND);
    put(at(dir, "short-key"), "short", 5);
    secret.path = at(dir, "short-key");
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_KEY_FILE);
    secret.kind = DP_SECRET_KEY;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_OK);

    dp_restore_options restore = {.size = sizeof restore, .medium = at(dir, "keys.tap"),
                                  .destination = at(dir, "keys.restored")};
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_KEY_NEEDED);
    secret.bytes = (const uint8_t *)"another key, of thirty-two bytes";
    restore.secret = &secret;
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_WRONG_KEY);
    restore.medium = at(dir, "sizes.tap");
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_NOT_ENCRYPTED);
    CHECK(access(at(dir, "keys.restored"), F_OK) == -1);

    backup.mode = DP_WRITE_APPEND;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_WRONG_KEY);
    backup.secret = NULL;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_KEY_NEEDED);
    backup.flags = DP_BACKUP_OTHER_KEY;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_OK);
}

static void archives(void)
{
    const char *medium = at(dir, "sizes.tap");
    dp_restore_options restore = {.size = sizeof restore, .medium = at(dir, "nothing.tap"),
                                  .destination = at(dir, "restored")};
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_NOT_FOUND);
    put(at(dir, "text"), "not an archive\n", 15);
    restore.medium = at(dir, "text");
    dp_status status = dp_restore(&restore, NULL);
    CHECK(status == DP_ERR_NO_ARCHIVE || status == DP_ERR_MEDIUM);
    CHECK(mkdir(at(dir, "empty"), 0700) == 0);
    restore.medium = at(dir, "empty");
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_NO_ARCHIVE);

    restore.medium = medium;
    dp_selection selection = {.size = sizeof selection, .archive = 2};
    restore.selection = &selection;
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_NO_ARCHIVE);
    selection.archive = 0;
    selection.header_hash = (const uint8_t *)"the hash of a header that is not";
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_OTHER_ARCHIVE);
    restore.selection = NULL;
    restore.target_kind = DP_TARGET_DESCRIPTOR;
    restore.target_descriptor = 1;
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_CONTENT);
    restore.target_kind = DP_TARGET_FUNCTION;
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_ARGUMENT);
    restore.target_kind = 3;
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_ARGUMENT);
    restore.target_kind = DP_TARGET_DIRECTORY;
    restore.flags = 4;
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_ARGUMENT);
    restore.flags = 0;
    const char *empty[] = {""};
    restore.paths = empty;
    restore.path_count = 1;
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_ARGUMENT);
    restore.path_count = 0;
    restore.destination = at(dir, "no/such/parent");
    CHECK_STATUS(dp_restore(&restore, NULL), DP_ERR_NOT_FOUND);

    int32_t answer = 42;
    dp_list_options list = {.size = sizeof list, .medium = medium, .entry = ends_list,
                            .entry_user = &answer};
    dp_read_result read = {.size = sizeof read, .files = 77};
    CHECK_STATUS(dp_list(&list, &read), DP_ERR_CALLBACK);
    CHECK(read.files == 77 && strstr(dp_error_message(0), "42"));
    list.entry = NULL;
    CHECK_STATUS(dp_list(&list, &read), DP_ERR_NULL);

    dp_copy_options copy = {.size = sizeof copy, .medium = medium, .target = medium};
    CHECK_STATUS(dp_copy(&copy, NULL), DP_ERR_ARGUMENT);
    copy.target = at(dir, "copy.tap");
    copy.record_len = 1;
    CHECK_STATUS(dp_copy(&copy, NULL), DP_ERR_ARGUMENT);
    CHECK(access(copy.target, F_OK) == -1);
}

static void callbacks(void)
{
    int64_t answers[] = {-EIO, -ENOSPC, INT64_MIN, INT64_MAX};
    dp_status expected[] = {DP_ERR_SYSTEM, DP_ERR_STORAGE_FULL, DP_ERR_STAGE, DP_ERR_STAGE};
    for (int i = 0; i < 4; i++) {
        dp_backup_options backup = backup_of(at(dir, i & 1 ? "odd.tap" : "even.tap"));
        backup.mode = DP_WRITE_OVERWRITE;
        backup.source_kind = DP_SOURCE_FUNCTION;
        backup.source_count = 0;
        backup.source_read = fails;
        backup.source_user = &answers[i];
        CHECK_STATUS(dp_backup(&backup, NULL), expected[i]);
        CHECK(dp_error_errno() == (i == 0 ? EIO : i == 1 ? ENOSPC : 0));
    }
    dp_hooks hooks = {.size = sizeof hooks, .progress = cancels, .progress_interval_ms = 1};
    dp_backup_options backup = backup_of(at(dir, "cancelled.tap"));
    backup.source_kind = DP_SOURCE_FUNCTION;
    backup.source_count = 0;
    backup.source_read = endless;
    backup.hooks = &hooks;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_ERR_CANCELLED);
}

static void *other_thread(void *unused)
{
    CHECK(dp_error_status() == DP_OK && dp_error_count() == 0 && dp_error_message(0) == NULL);
    CHECK_STATUS(dp_verify(NULL, NULL), DP_ERR_NULL);
    CHECK(dp_error_status() == DP_ERR_NULL);
    return unused;
}

static atomic_uint messages, named;

static void on_message(void *user, int32_t level, const char *message)
{
    CHECK(user == &messages && level >= DP_LOG_ERROR && level <= DP_LOG_INFO);
    CHECK(strlen(message) > 0 && strpbrk(message, "\n\x1b") == NULL);
    named += strstr(message, "two\\nlines \\u{1b}[31m") != NULL;
    messages++;
    CHECK_STATUS(dp_log_set(NULL, NULL, DP_LOG_INFO), DP_ERR_REENTRANT);
}

/* A message that has the name of a file: a key that others can read. */
static void logged_names(void)
{
    const char *path = at(dir, "two\nlines \x1b[31m");
    put(path, "0123456789abcdef0123456789abcdef", 32);
    CHECK(chmod(path, 0644) == 0);
    dp_secret secret = {.size = sizeof secret, .kind = DP_SECRET_KEY_FILE, .path = path};
    dp_backup_options backup = backup_of(at(dir, "named.tap"));
    backup.secret = &secret;
    CHECK_STATUS(dp_backup(&backup, NULL), DP_OK);
    CHECK(named > 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    dir = argv[1];
    tree = strdup(at(dir, "tree"));
    CHECK(mkdir(tree, 0755) == 0);
    put(at(tree, "file"), "content", 7);

    CHECK(strcmp(dp_status_name(DP_ERR_KEY_NEEDED), "DP_ERR_KEY_NEEDED") == 0);
    CHECK(strcmp(dp_status_name(12345), "unknown status") == 0);
    CHECK_STATUS(dp_log_set(NULL, NULL, 0), DP_ERR_ARGUMENT);
    CHECK_STATUS(dp_log_set(on_message, &messages, DP_LOG_INFO), DP_OK);
    arguments();
    sizes();
    CHECK(messages > 0);
    logged_names();
    CHECK_STATUS(dp_log_set(NULL, NULL, DP_LOG_INFO), DP_OK);
    keys();
    archives();
    callbacks();

    CHECK_STATUS(dp_copy(NULL, NULL), DP_ERR_NULL);
    const char *message = dp_error_message(0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(dp_error_message(0) == message && strstr(message, "dp_copy_options"));
    free((void *)(uintptr_t)tree);
    return 0;
}
