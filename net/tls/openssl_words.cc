// Error codes to words: alerts of the peer are codes of their own.
#include "net/tls/openssl_words.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cerrno>
#include <cstring>

namespace pulse {

std::string take_openssl_error() {
    const unsigned long code = ERR_peek_last_error();
    ERR_clear_error();
    if (code == 0) return "no reason is known";
    if (ERR_SYSTEM_ERROR(code)) return std::strerror(static_cast<int>(ERR_GET_REASON(code)));
    const int reason = ERR_GET_REASON(code);
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET)
        return std::string("the peer's alert: ") +
               SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET);
    const char* words = ERR_reason_error_string(code);
    return words != nullptr ? words : "OpenSSL's error " + std::to_string(code);
}

}  // namespace pulse
