// TLS of the server's side, over OpenSSL: a certificate with its key, and one session for each connection.
//
// TLS 1.2 and 1.3; ALPN offers h2 and http/1.1; session tickets; no renegotiation, no compression. A session works on a
// non-blocking socket that its caller owns, and never waits: it says what it wants to wait for. Owner of a session: one
// connection, one thread. A context may be replaced while sessions that came of it go on. Fails with tls_unusable.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/result.h"

struct ssl_ctx_st;
struct ssl_st;

namespace mayfly {

class TlsContext {
 public:
  // Both in PEM; the certificate first, then its chain. `what` names them in errors. A key with a pass phrase can't be
  // used.
  static Result<std::shared_ptr<const TlsContext>> create(std::string_view certificate, std::string_view key,
                                                          std::string_view what);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

 private:
  friend class TlsSession;
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  ssl_ctx_st* context_;
};

class TlsSession {
 public:
  enum class Want : std::uint8_t { kNothing, kRead, kWrite, kEnd, kFailed };
  struct Done {
    Want want = Want::kNothing;
    std::size_t bytes = 0;  // of kNothing
  };

  // `fd` stays the caller's, and outlives the session.
  static Result<std::unique_ptr<TlsSession>> create(const TlsContext& context, int fd);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  Want handshake();  // kNothing: done
  Done read(std::span<char> into);
  // Repeat with the same bytes, or with more after them, until they are taken.
  Done write(std::span<const char> bytes);
  void shut_down();                   // says once that no more comes
  std::string_view protocol() const;  // by ALPN: "h2", "http/1.1", or ""

 private:
  explicit TlsSession(ssl_st* ssl) : ssl_(ssl) {}
  Want want_of(int result);
  ssl_st* ssl_;
  bool failed_ = false;
};

}  // namespace mayfly
