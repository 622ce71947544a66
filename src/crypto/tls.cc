#include "crypto/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <climits>
#include <string>

namespace mayfly {
namespace {

constexpr unsigned char kProtocols[] = "\x02h2\x08http/1.1";  // in the order of our preference

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* p) const {
    Free(p);
  }
};
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;

Bio memory(std::string_view pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(std::min<std::size_t>(pem.size(), INT_MAX))));
}

// OpenSSL's own reason is in its queue, the first entry being the cause.
Error unusable(std::string_view what, std::string_view step) {
  const char* reason = ERR_reason_error_string(ERR_peek_error());
  ERR_clear_error();
  return make_error(Code::kFailedPrecondition, "tls_unusable", "cannot use {}: {}{}{}", what, step,
                    reason != nullptr ? ": " : "", reason != nullptr ? reason : "");
}

// Without this OpenSSL asks for a pass phrase at the terminal.
int no_pass_phrase(char*, int, int, void*) { return -1; }

int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in, unsigned in_size,
                    void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kProtocols, sizeof kProtocols - 1, in, in_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;  // goes on without; the first bytes then tell
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

Status use_chain(SSL_CTX* context, std::string_view pem, std::string_view what) {
  const Bio bio = memory(pem);
  const Certificate own(PEM_read_bio_X509_AUX(bio.get(), nullptr, no_pass_phrase, nullptr));
  if (!own) return unusable(what, "the certificate file holds no certificate in PEM");
  if (SSL_CTX_use_certificate(context, own.get()) != 1) return unusable(what, "the certificate is refused");
  for (;;) {
    Certificate next(PEM_read_bio_X509(bio.get(), nullptr, no_pass_phrase, nullptr));
    if (!next) break;
    if (SSL_CTX_add0_chain_cert(context, next.get()) != 1) return unusable(what, "its chain is refused");
    static_cast<void>(next.release());
  }
  ERR_clear_error();  // the end of the file is one
  return Ok{};
}

}  // namespace

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

Result<std::shared_ptr<const TlsContext>> TlsContext::create(std::string_view certificate, std::string_view key,
                                                             std::string_view what) {
  ERR_clear_error();
  Context context(SSL_CTX_new(TLS_server_method()));
  if (!context) return unusable(what, "OpenSSL makes no context");
  SSL_CTX* c = context.get();
  SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
  // Read-ahead takes a record in one call to the kernel; the buffers are given back while a connection is idle.
  SSL_CTX_set_read_ahead(c, 1);
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                             SSL_OP_IGNORE_UNEXPECTED_EOF);
  // What HTTP/2 allows of TLS 1.2 (RFC 9113 section 9.2.2): ephemeral keys and AEAD.
  if (SSL_CTX_set_cipher_list(c, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) return unusable(what, "no cipher is left");
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);  // tickets keep the state at the client
  constexpr unsigned char kId[] = "mayfly";
  SSL_CTX_set_session_id_context(c, kId, sizeof kId - 1);
  SSL_CTX_set_alpn_select_cb(c, choose_protocol, nullptr);
  MAYFLY_TRY(use_chain(c, certificate, what));
  const Bio bio = memory(key);
  const Key own(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_pass_phrase, nullptr));
  if (!own) return unusable(what, "the key file holds no private key in PEM without a pass phrase");
  if (SSL_CTX_use_PrivateKey(c, own.get()) != 1 || SSL_CTX_check_private_key(c) != 1)
    return unusable(what, "the key is not that of the certificate");
  return std::shared_ptr<const TlsContext>(new TlsContext(context.release()));
}

Result<std::unique_ptr<TlsSession>> TlsSession::create(const TlsContext& context, int fd) {
  SSL* ssl = SSL_new(context.context_);
  if (ssl == nullptr) return unusable("a TLS session", "no memory");
  std::unique_ptr<TlsSession> self(new TlsSession(ssl));
  if (SSL_set_fd(ssl, fd) != 1) return unusable("a TLS session", "no memory");
  SSL_set_accept_state(ssl);
  return self;
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

TlsSession::Want TlsSession::want_of(int result) {
  const int error = SSL_get_error(ssl_, result);
  if (error == SSL_ERROR_WANT_READ) return Want::kRead;
  if (error == SSL_ERROR_WANT_WRITE) return Want::kWrite;
  if (error == SSL_ERROR_ZERO_RETURN) return Want::kEnd;
  failed_ = true;  // nothing may be sent after a fatal error, a close notice included
  ERR_clear_error();
  return Want::kFailed;
}

TlsSession::Want TlsSession::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  return result == 1 ? Want::kNothing : want_of(result);
}

TlsSession::Done TlsSession::read(std::span<char> into) {
  ERR_clear_error();
  std::size_t n = 0;
  const int result = SSL_read_ex(ssl_, into.data(), into.size(), &n);
  return result == 1 ? Done{Want::kNothing, n} : Done{want_of(result), 0};
}

TlsSession::Done TlsSession::write(std::span<const char> bytes) {
  ERR_clear_error();
  std::size_t n = 0;
  const int result = SSL_write_ex(ssl_, bytes.data(), bytes.size(), &n);
  return result == 1 ? Done{Want::kNothing, n} : Done{want_of(result), 0};
}

void TlsSession::shut_down() {
  if (failed_ || SSL_is_init_finished(ssl_) == 0) return;
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

std::string_view TlsSession::protocol() const {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

}  // namespace mayfly
