#include "store/statement.h"

#include <fcntl.h>
#include <sqlite3.h>

#include <cerrno>
#include <limits>

#include "base/fd.h"

namespace mayfly {

void CloseDatabase::operator()(sqlite3* db) const { sqlite3_close_v2(db); }
void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Error sqlite_error(sqlite3* db, std::string_view what) {
  const int extended = sqlite3_extended_errcode(db);
  const std::string message = fmt::format("{}: {} (SQLite {})", what, sqlite3_errmsg(db), extended);
  if (extended == SQLITE_CONSTRAINT_PRIMARYKEY || extended == SQLITE_CONSTRAINT_UNIQUE) {
    return Error{Code::kAlreadyExists, "already_exists", message};
  }
  if (extended == SQLITE_CONSTRAINT_FOREIGNKEY) return Error{Code::kNotFound, "reference_not_found", message};
  switch (extended & 0xff) {
    case SQLITE_FULL:
      return Error{Code::kResourceExhausted, "disk_full", message + "; free space in the data directory"};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Error{Code::kUnavailable, "database_busy", message + "; another program holds the database open"};
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Error{Code::kDataLoss, "database_corrupt", message + "; restore the data directory from a backup"};
    default:
      return Error{Code::kInternal, "database_failed", message};
  }
}

Result<Database> open_database(const std::string& path, int busy_timeout_ms) {
  // SQLite would create the file by the umask; it holds key hashes. The WAL file takes the mode of the main file.
  if (Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)); !file.valid()) {
    return errno_error(errno, "open " + path);
  }
  sqlite3* raw = nullptr;
  const int rc = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  Database db(raw);
  if (!db) return make_error(Code::kInternal, "database_failed", "open {}: out of memory", path);
  if (rc != SQLITE_OK) return sqlite_error(db.get(), "open " + path);
  sqlite3_extended_result_codes(db.get(), 1);
  sqlite3_busy_timeout(db.get(), busy_timeout_ms);
  return db;
}

Status execute(sqlite3* db, const char* sql) {
  if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return sqlite_error(db, sql);
  return Ok{};
}

Result<Statement> Statement::prepare(sqlite3* db, std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v2(db, sql.data(), static_cast<int>(sql.size()), &raw, nullptr) != SQLITE_OK) {
    return sqlite_error(db, sql);
  }
  return Statement(db, raw);
}

Statement& Statement::bind(std::string_view text) {
  // A null pointer would bind NULL, and an empty view may hold one.
  const char* data = text.data() != nullptr ? text.data() : "";
  const int rc =
      sqlite3_bind_text64(statement_.get(), next_parameter_++, data, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  if (bind_failure_ == SQLITE_OK) bind_failure_ = rc;
  return *this;
}

Statement& Statement::bind(std::uint64_t number) {
  int rc = SQLITE_RANGE;
  if (number <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    rc = sqlite3_bind_int64(statement_.get(), next_parameter_, static_cast<std::int64_t>(number));
  }
  ++next_parameter_;
  if (bind_failure_ == SQLITE_OK) bind_failure_ = rc;
  return *this;
}

Statement& Statement::bind(double number) {
  const int rc = sqlite3_bind_double(statement_.get(), next_parameter_++, number);
  if (bind_failure_ == SQLITE_OK) bind_failure_ = rc;
  return *this;
}

Result<bool> Statement::step() {
  const char* sql = sqlite3_sql(statement_.get());
  if (bind_failure_ != SQLITE_OK) {
    return invalid("value_too_large", "a value does not fit the database ({}) in: {}", sqlite3_errstr(bind_failure_),
                   sql);
  }
  const int rc = sqlite3_step(statement_.get());
  if (rc == SQLITE_ROW) return true;
  if (rc == SQLITE_DONE) return false;
  return sqlite_error(db_, sql);
}

Status Statement::run() {
  for (;;) {
    auto row = step();
    if (!row.ok()) return std::move(row.error());
    if (!*row) return Ok{};
  }
}

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  if (data == nullptr) return {};
  return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

std::uint64_t Statement::number(int column) const {
  return static_cast<std::uint64_t>(sqlite3_column_int64(statement_.get(), column));
}

double Statement::real(int column) const { return sqlite3_column_double(statement_.get(), column); }

Result<Transaction> Transaction::begin(sqlite3* db) {
  MAYFLY_TRY(execute(db, "BEGIN IMMEDIATE"));
  return Transaction(db);
}

Transaction::~Transaction() {
  // After some failures (disk full) SQLite has rolled back by itself.
  if (db_ != nullptr && sqlite3_get_autocommit(db_) == 0) sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
}

Status Transaction::commit() {
  MAYFLY_TRY(execute(db_, "COMMIT"));
  db_ = nullptr;
  return Ok{};
}

}  // namespace mayfly
