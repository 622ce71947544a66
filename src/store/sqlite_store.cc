// The Store over SQLite: one connection in WAL mode, synchronous=FULL, behind one mutex; every change is one
// transaction.
//
// The schema is a list of migrations; PRAGMA user_version counts those that were applied. `dir`/lock is held with flock
// for the life of the store and carries the holder's pid. The lock follows the open file: a process that is forked
// while the store is open must not keep the descriptor (exec closes it).
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <limits>
#include <mutex>

#include "base/fd.h"
#include "store/statement.h"
#include "store/store.h"

namespace mayfly {
namespace {

constexpr int kBusyTimeoutMs = 5000;

// Append only: a migration that was released is never edited. `counters` outlives its endpoint, so that the number of a
// version is never given twice, also after the endpoint was deleted and created again.
constexpr const char* kMigrations[] = {
    R"(
CREATE TABLE tenants(name TEXT PRIMARY KEY NOT NULL, created_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE endpoints(
  tenant TEXT NOT NULL REFERENCES tenants(name), name TEXT NOT NULL, live_version INTEGER NOT NULL,
  created_ms INTEGER NOT NULL, PRIMARY KEY(tenant, name)) STRICT, WITHOUT ROWID;
CREATE TABLE versions(
  tenant TEXT NOT NULL, endpoint TEXT NOT NULL, number INTEGER NOT NULL, package TEXT NOT NULL,
  settings_json TEXT NOT NULL, report_json TEXT NOT NULL, created_ms INTEGER NOT NULL,
  PRIMARY KEY(tenant, endpoint, number),
  FOREIGN KEY(tenant, endpoint) REFERENCES endpoints(tenant, name) ON DELETE CASCADE) STRICT;
CREATE TABLE counters(
  tenant TEXT NOT NULL REFERENCES tenants(name), endpoint TEXT NOT NULL, last_number INTEGER NOT NULL,
  PRIMARY KEY(tenant, endpoint)) STRICT, WITHOUT ROWID;
CREATE TABLE keys(
  id TEXT PRIMARY KEY NOT NULL, tenant TEXT NOT NULL REFERENCES tenants(name), name TEXT NOT NULL, scopes TEXT NOT NULL,
  hash TEXT NOT NULL, created_ms INTEGER NOT NULL, revoked INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE packages(
  digest TEXT NOT NULL, tenant TEXT NOT NULL REFERENCES tenants(name), bytes INTEGER NOT NULL,
  PRIMARY KEY(digest, tenant)) STRICT, WITHOUT ROWID;
INSERT INTO tenants VALUES('default', CAST(strftime('%s', 'now') AS INTEGER) * 1000);
)",
    R"(
ALTER TABLE keys ADD COLUMN rate REAL NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN burst INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN concurrency INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
)",
    R"(
CREATE INDEX versions_by_package ON versions(package, tenant);
)",
    R"(
CREATE TABLE artefacts(file TEXT PRIMARY KEY NOT NULL, bytes INTEGER NOT NULL, build_ms INTEGER NOT NULL)
  STRICT, WITHOUT ROWID;
)",
    R"(
ALTER TABLE versions ADD COLUMN measures_json TEXT NOT NULL DEFAULT '';
)",
};
constexpr std::uint64_t kSchemaVersion = std::size(kMigrations);

Result<std::uint64_t> pragma_number(sqlite3* db, std::string_view sql) {
  auto statement = Statement::prepare(db, sql);
  if (!statement.ok()) return std::move(statement.error());
  MAYFLY_TRY(statement->step());
  return statement->number(0);
}

Status migrate(sqlite3* db, const std::string& path) {
  auto found = pragma_number(db, "PRAGMA user_version");
  if (!found.ok()) return std::move(found.error());
  if (*found > kSchemaVersion) {
    return make_error(Code::kFailedPrecondition, "newer_database",
                      "{} has schema {}, and this program knows schemas up to {}: it was written by a newer Mayfly; "
                      "start that one, or restore a backup made before the upgrade",
                      path, *found, kSchemaVersion);
  }
  for (std::uint64_t next = *found; next < kSchemaVersion; ++next) {
    auto transaction = Transaction::begin(db);
    if (!transaction.ok()) return std::move(transaction.error());
    MAYFLY_TRY(execute(db, kMigrations[next]));
    MAYFLY_TRY(execute(db, fmt::format("PRAGMA user_version = {}", next + 1).c_str()));
    MAYFLY_TRY(transaction->commit());
  }
  return Ok{};
}

Status set_durability(sqlite3* db, const std::string& path) {
  auto mode = Statement::prepare(db, "PRAGMA journal_mode = WAL");
  if (!mode.ok()) return std::move(mode.error());
  MAYFLY_TRY(mode->step());
  if (const std::string got = mode->text(0); got != "wal") {
    return make_error(
        Code::kFailedPrecondition, "wal_unavailable",
        "{}: SQLite can't use a write-ahead log here (journal mode {}); put the data directory on a local "
        "file system",
        path, got);
  }
  return execute(db, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
}

// The names of files that were just created are durable only when their folder is.
Status sync_folder(const std::string& dir) {
  Fd folder(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || ::fsync(folder.get()) != 0) return errno_error(errno, "sync folder " + dir);
  return Ok{};
}

Error in_use_error(const std::string& dir, int lock) {
  std::array<char, 24> text{};
  const ssize_t n = ::pread(lock, text.data(), text.size() - 1, 0);
  std::string holder(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  while (!holder.empty() && holder.back() == '\n') holder.pop_back();
  return make_error(Code::kFailedPrecondition, "data_directory_in_use",
                    "data directory {} is in use by {}; stop that server, or start this one with another --data", dir,
                    holder.empty() ? "another server" : "the server with pid " + holder);
}

Result<Fd> lock_directory(const std::string& dir) {
  const std::string path = dir + "/lock";
  Fd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) return errno_error(errno, "open " + path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return in_use_error(dir, lock.get());
    return errno_error(errno, "lock " + path);
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(lock.get(), 0) != 0 || ::pwrite(lock.get(), pid.data(), pid.size(), 0) < 0) {
    return errno_error(errno, "write " + path);
  }
  return lock;
}

Error endpoint_not_found(std::string_view tenant, std::string_view name) {
  return make_error(Code::kNotFound, "endpoint_not_found", "tenant {} has no endpoint {}", tenant, name);
}

// A missing parent row can only be the tenant in the statements that use this.
Status name_tenant(Status status, std::string_view tenant) {
  if (status.ok() || status.error().reason != "reference_not_found") return status;
  return make_error(Code::kNotFound, "tenant_not_found", "there is no tenant {}", tenant);
}

// The columns that read_version() reads.
constexpr std::string_view kSelectVersions =
    "SELECT tenant, endpoint, number, package, settings_json, report_json, created_ms, measures_json FROM versions";

VersionRow read_version(const Statement& s) {
  return VersionRow{s.text(0),   s.text(1), static_cast<std::uint32_t>(s.number(2)), s.text(3), s.text(4), s.text(5),
                    s.number(6), s.text(7)};
}

class SqliteStore final : public Store {
 public:
  SqliteStore(Fd lock, Database db) : lock_(std::move(lock)), db_(std::move(db)) {}

  Result<std::uint32_t> add_version(VersionRow row) override;
  Result<std::vector<EndpointRow>> endpoints() override;
  Result<std::vector<VersionRow>> versions() override;
  Result<std::vector<VersionRow>> versions_of(std::string_view tenant, std::string_view name) override;
  Result<std::optional<VersionRow>> version_like(std::string_view tenant, std::string_view package,
                                                 std::string_view settings_json) override;
  Status note_measures(const std::vector<VersionMeasures>& measures) override;
  Status delete_endpoint(std::string_view tenant, std::string_view name) override;
  Status prune_versions(std::string_view tenant, std::string_view name, std::uint32_t keep_from) override;
  Status add_key(const KeyRow& row) override;
  Result<std::vector<KeyRow>> keys() override;
  Status revoke_key(std::string_view id) override;
  Status set_key_limits(std::string_view id, const KeyLimits& limits) override;
  Result<std::uint64_t> package_bytes_of(std::string_view tenant) override;
  Status note_package(std::string_view digest, std::string_view tenant, std::uint64_t bytes,
                      std::uint64_t limit) override;
  Status forget_package(std::string_view digest) override;
  Result<std::vector<std::string>> packages() override;
  Result<bool> package_in_use(std::string_view digest) override;
  Result<std::uint64_t> package_bytes(std::string_view digest) override;
  Status note_artefact(const ArtefactRow& row) override;
  Status forget_artefact(std::string_view file) override;
  Result<std::vector<ArtefactRow>> artefacts() override;

 private:
  Result<std::uint32_t> next_number(const VersionRow& row);
  Status changed_key(std::string_view id);

  // Fills a vector with make(statement) for each row; the mutex is taken here.
  template <typename Row, typename Make, typename... A>
  Result<std::vector<Row>> rows(std::string_view sql, Make make, const A&... args) {
    std::lock_guard guard(mutex_);
    auto statement = Statement::prepare(db_.get(), sql);
    if (!statement.ok()) return std::move(statement.error());
    statement->bind_all(args...);
    std::vector<Row> found;
    for (;;) {
      auto row = statement->step();
      if (!row.ok()) return std::move(row.error());
      if (!*row) return found;
      found.push_back(make(*statement));
    }
  }

  Fd lock_;  // destroyed after db_: nobody else may open the database before it is closed
  Database db_;
  std::mutex mutex_;
};

Result<std::uint32_t> SqliteStore::next_number(const VersionRow& row) {
  auto statement = Statement::prepare(db_.get(),
                                      "INSERT INTO counters VALUES(?1, ?2, 1) ON CONFLICT DO UPDATE SET last_number = "
                                      "last_number + 1 RETURNING last_number");
  if (!statement.ok()) return std::move(statement.error());
  MAYFLY_TRY(statement->bind_all(row.tenant, row.endpoint).step());
  const std::uint64_t number = statement->number(0);
  MAYFLY_TRY(statement->run());
  if (number > std::numeric_limits<std::uint32_t>::max()) {
    return make_error(Code::kOutOfRange, "too_many_versions",
                      "endpoint {} has used all {} version numbers; choose "
                      "another name",
                      row.endpoint, std::numeric_limits<std::uint32_t>::max());
  }
  return static_cast<std::uint32_t>(number);
}

Result<std::uint32_t> SqliteStore::add_version(VersionRow row) {
  std::lock_guard guard(mutex_);
  auto transaction = Transaction::begin(db_.get());
  if (!transaction.ok()) return std::move(transaction.error());
  auto number = next_number(row);
  if (!number.ok()) {
    Status named = name_tenant(std::move(number.error()), row.tenant);
    return std::move(named.error());
  }
  const std::uint64_t wide = *number;
  MAYFLY_TRY(
      run(db_.get(),
          "INSERT INTO endpoints VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET live_version = excluded.live_version",
          row.tenant, row.endpoint, wide, row.created_ms));
  MAYFLY_TRY(run(db_.get(), "INSERT INTO versions VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row.tenant, row.endpoint,
                 wide, row.package, row.settings_json, row.report_json, row.created_ms, row.measures_json));
  MAYFLY_TRY(transaction->commit());
  return *number;
}

Result<std::vector<EndpointRow>> SqliteStore::endpoints() {
  return rows<EndpointRow>(
      "SELECT tenant, name, live_version, created_ms FROM endpoints ORDER BY tenant, name", [](const Statement& s) {
        return EndpointRow{s.text(0), s.text(1), static_cast<std::uint32_t>(s.number(2)), s.number(3)};
      });
}

Result<std::vector<VersionRow>> SqliteStore::versions() {
  return rows<VersionRow>(fmt::format("{} ORDER BY tenant, endpoint, number", kSelectVersions), read_version);
}

Result<std::vector<VersionRow>> SqliteStore::versions_of(std::string_view tenant, std::string_view name) {
  return rows<VersionRow>(fmt::format("{} WHERE tenant = ?1 AND endpoint = ?2 ORDER BY number", kSelectVersions),
                          read_version, tenant, name);
}

Result<std::optional<VersionRow>> SqliteStore::version_like(std::string_view tenant, std::string_view package,
                                                            std::string_view settings_json) {
  // Two steps, each of which ends at its first row: thousands of endpoints may have the same package.
  auto same = rows<VersionRow>(
      fmt::format("{} WHERE package = ?1 AND tenant = ?2 AND settings_json = ?3 LIMIT 1", kSelectVersions),
      read_version, package, tenant, settings_json);
  if (!same.ok()) return std::move(same.error());
  if (!same->empty()) return std::optional(std::move(same->front()));
  auto any = rows<VersionRow>(fmt::format("{} WHERE package = ?1 AND tenant = ?2 LIMIT 1", kSelectVersions),
                              read_version, package, tenant);
  if (!any.ok()) return std::move(any.error());
  if (any->empty()) return std::optional<VersionRow>();
  return std::optional(std::move(any->front()));
}

Status SqliteStore::note_measures(const std::vector<VersionMeasures>& measures) {
  std::lock_guard guard(mutex_);
  auto transaction = Transaction::begin(db_.get());
  if (!transaction.ok()) return std::move(transaction.error());
  for (const VersionMeasures& m : measures) {
    const std::uint64_t number = m.number;
    MAYFLY_TRY(run(db_.get(),
                   "UPDATE versions SET measures_json = ?4 WHERE tenant = ?1 AND endpoint = ?2 AND number = ?3",
                   m.tenant, m.endpoint, number, m.json));
  }
  return transaction->commit();
}

Status SqliteStore::delete_endpoint(std::string_view tenant, std::string_view name) {
  std::lock_guard guard(mutex_);
  MAYFLY_TRY(run(db_.get(), "DELETE FROM endpoints WHERE tenant = ?1 AND name = ?2", tenant, name));
  if (sqlite3_changes(db_.get()) == 0) return endpoint_not_found(tenant, name);
  return Ok{};
}

Status SqliteStore::prune_versions(std::string_view tenant, std::string_view name, std::uint32_t keep_from) {
  std::lock_guard guard(mutex_);
  auto endpoint = Statement::prepare(db_.get(), "SELECT live_version FROM endpoints WHERE tenant = ?1 AND name = ?2");
  if (!endpoint.ok()) return std::move(endpoint.error());
  auto exists = endpoint->bind_all(tenant, name).step();
  if (!exists.ok()) return std::move(exists.error());
  if (!*exists) return endpoint_not_found(tenant, name);
  // The version that receives traffic stays whatever the caller says: an endpoint must not point at nothing.
  return run(db_.get(), "DELETE FROM versions WHERE tenant = ?1 AND endpoint = ?2 AND number < ?3 AND number <> ?4",
             tenant, name, std::uint64_t{keep_from}, endpoint->number(0));
}

Status SqliteStore::add_key(const KeyRow& row) {
  std::lock_guard guard(mutex_);
  const KeyLimits& l = row.limits;
  Status added = run(db_.get(),
                     "INSERT INTO keys(id, tenant, name, scopes, hash, created_ms, revoked, rate, burst, concurrency, "
                     "weight) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                     row.id, row.tenant, row.name, row.scopes, row.hash, row.created_ms, std::uint64_t{row.revoked},
                     l.rate, std::uint64_t{l.burst}, std::uint64_t{l.concurrency}, std::uint64_t{l.weight});
  if (!added.ok() && added.error().reason == "already_exists") {
    return make_error(Code::kAlreadyExists, "key_exists", "there is a key with the id {} already", row.id);
  }
  return name_tenant(std::move(added), row.tenant);
}

Result<std::vector<KeyRow>> SqliteStore::keys() {
  return rows<KeyRow>(
      "SELECT id, tenant, name, scopes, hash, created_ms, revoked, rate, burst, concurrency, weight FROM keys "
      "ORDER BY created_ms, id",
      [](const Statement& s) {
        auto small = [&](int column) { return static_cast<std::uint32_t>(s.number(column)); };
        const KeyLimits limits{s.real(7), small(8), small(9), small(10)};
        return KeyRow{s.text(0), s.text(1), s.text(2), s.text(3), s.text(4), s.number(5), s.number(6) != 0, limits};
      });
}

Status SqliteStore::revoke_key(std::string_view id) {
  std::lock_guard guard(mutex_);
  MAYFLY_TRY(run(db_.get(), "UPDATE keys SET revoked = 1 WHERE id = ?1", id));
  return changed_key(id);
}

Status SqliteStore::set_key_limits(std::string_view id, const KeyLimits& l) {
  std::lock_guard guard(mutex_);
  MAYFLY_TRY(run(db_.get(), "UPDATE keys SET rate = ?2, burst = ?3, concurrency = ?4, weight = ?5 WHERE id = ?1", id,
                 l.rate, std::uint64_t{l.burst}, std::uint64_t{l.concurrency}, std::uint64_t{l.weight}));
  return changed_key(id);
}

// After an UPDATE of the key `id`.
Status SqliteStore::changed_key(std::string_view id) {
  if (sqlite3_changes(db_.get()) > 0) return Ok{};
  return make_error(Code::kNotFound, "key_not_found", "there is no key with the id {}", id);
}

Result<std::uint64_t> SqliteStore::package_bytes_of(std::string_view tenant) {
  std::lock_guard guard(mutex_);
  auto sum = Statement::prepare(db_.get(), "SELECT coalesce(sum(bytes), 0) FROM packages WHERE tenant = ?1");
  if (!sum.ok()) return std::move(sum.error());
  MAYFLY_TRY(sum->bind_all(tenant).step());
  return sum->number(0);
}

Status SqliteStore::note_package(std::string_view digest, std::string_view tenant, std::uint64_t bytes,
                                 std::uint64_t limit) {
  std::lock_guard guard(mutex_);
  auto others =
      Statement::prepare(db_.get(), "SELECT coalesce(sum(bytes), 0) FROM packages WHERE tenant = ?1 AND digest <> ?2");
  if (!others.ok()) return std::move(others.error());
  MAYFLY_TRY(others->bind_all(tenant, digest).step());
  if (const std::uint64_t used = others->number(0); bytes > limit || used > limit - bytes) {
    return make_error(Code::kResourceExhausted, "quota_exceeded",
                      "a package of {} bytes does not fit: tenant \"{}\" uses {} of its quota of {} bytes; delete "
                      "endpoints",
                      bytes, tenant, used, limit);
  }
  return name_tenant(
      run(db_.get(), "INSERT INTO packages VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET bytes = excluded.bytes", digest,
          tenant, bytes),
      tenant);
}

Status SqliteStore::forget_package(std::string_view digest) {
  std::lock_guard guard(mutex_);
  return run(db_.get(), "DELETE FROM packages WHERE digest = ?1", digest);
}

Result<std::vector<std::string>> SqliteStore::packages() {
  return rows<std::string>("SELECT DISTINCT digest FROM packages ORDER BY digest",
                           [](const Statement& s) { return s.text(0); });
}

Result<bool> SqliteStore::package_in_use(std::string_view digest) {
  std::lock_guard guard(mutex_);
  auto one = Statement::prepare(db_.get(), "SELECT 1 FROM versions WHERE package = ?1 LIMIT 1");
  if (!one.ok()) return std::move(one.error());
  return one->bind_all(digest).step();
}

Result<std::uint64_t> SqliteStore::package_bytes(std::string_view digest) {
  std::lock_guard guard(mutex_);
  auto most = Statement::prepare(db_.get(), "SELECT coalesce(max(bytes), 0) FROM packages WHERE digest = ?1");
  if (!most.ok()) return std::move(most.error());
  MAYFLY_TRY(most->bind_all(digest).step());
  return most->number(0);
}

Status SqliteStore::note_artefact(const ArtefactRow& row) {
  std::lock_guard guard(mutex_);
  return run(db_.get(),
             "INSERT INTO artefacts VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET bytes = excluded.bytes, build_ms = "
             "excluded.build_ms",
             row.file, row.bytes, row.build_ms);
}

Status SqliteStore::forget_artefact(std::string_view file) {
  std::lock_guard guard(mutex_);
  return run(db_.get(), "DELETE FROM artefacts WHERE file = ?1", file);
}

Result<std::vector<ArtefactRow>> SqliteStore::artefacts() {
  return rows<ArtefactRow>("SELECT file, bytes, build_ms FROM artefacts ORDER BY file",
                           [](const Statement& s) { return ArtefactRow{s.text(0), s.number(1), s.number(2)}; });
}

}  // namespace

Result<std::unique_ptr<Store>> open_sqlite_store(const std::string& dir) {
  std::error_code failure;
  if (std::filesystem::create_directories(dir, failure)) {
    std::filesystem::permissions(dir, std::filesystem::perms::owner_all, failure);
  }
  if (failure) return errno_error(failure.value(), "create data directory " + dir);
  auto lock = lock_directory(dir);
  if (!lock.ok()) return std::move(lock.error());
  const std::string path = dir + "/mayfly.db";
  auto db = open_database(path, kBusyTimeoutMs);
  if (!db.ok()) return std::move(db.error());
  MAYFLY_TRY(set_durability(db->get(), path));
  MAYFLY_TRY(migrate(db->get(), path));
  MAYFLY_TRY(sync_folder(dir));
  return std::unique_ptr<Store>(std::make_unique<SqliteStore>(*std::move(lock), *std::move(db)));
}

}  // namespace mayfly
