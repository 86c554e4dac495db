// By OpenSSL.
#include "tests/support/certificates.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/check.h"

namespace pulse::test {
namespace {

void extend(X509* certificate, int what, const std::string& value) {
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, what, value.c_str());
    PULSE_ASSERT(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

std::string text_of(BIO* memory) {
    char* words = nullptr;
    const long bytes = BIO_get_mem_data(memory, &words);
    std::string text(words, static_cast<size_t>(bytes));
    BIO_free(memory);
    return text;
}

}  // namespace

TestCertificate::TestCertificate(const CertificateSpec& spec, const TestCertificate* issuer)
    : key_(spec.rsa ? EVP_RSA_gen(2'048) : EVP_EC_gen("P-256"), EVP_PKEY_free),
      certificate_(X509_new(), X509_free) {
    X509* const own = certificate_.get();
    PULSE_ASSERT(own != nullptr && key_ != nullptr);
    uint64_t serial = 0;
    RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial);
    X509_set_version(own, 2);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(own), serial >> 1);
    X509_gmtime_adj(X509_getm_notBefore(own), spec.from_s);
    X509_gmtime_adj(X509_getm_notAfter(own), spec.until_s);
    X509_set_pubkey(own, key_.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(own), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(spec.names.front().c_str()),
                               -1, -1, 0);
    std::string names;
    for (const std::string& name : spec.names)
        names.append(names.empty() ? "DNS:" : ",DNS:").append(name);
    extend(own, NID_subject_alt_name, names);
    extend(own, NID_basic_constraints, spec.authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    X509* const above = issuer != nullptr ? issuer->certificate() : own;
    X509_set_issuer_name(own, X509_get_subject_name(above));
    EVP_PKEY* const signer = issuer != nullptr ? issuer->key() : key_.get();
    PULSE_ASSERT(X509_sign(own, signer, EVP_sha256()) > 0);
}

std::string TestCertificate::certificate_pem() const {
    BIO* const memory = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(memory, certificate_.get());
    return text_of(memory);
}

std::string TestCertificate::key_pem(const std::string& passphrase) const {
    BIO* const memory = BIO_new(BIO_s_mem());
    PEM_write_bio_PKCS8PrivateKey(memory, key_.get(),
                                  passphrase.empty() ? nullptr : EVP_aes_256_cbc(),
                                  passphrase.empty() ? nullptr : passphrase.data(),
                                  static_cast<int>(passphrase.size()), nullptr, nullptr);
    return text_of(memory);
}

TestFolder::TestFolder() {
    std::string name = std::filesystem::temp_directory_path() / "pulse-test-XXXXXX";
    PULSE_ASSERT(::mkdtemp(name.data()) != nullptr);
    folder_ = name;
}

TestFolder::~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
}

std::string TestFolder::write(const std::string& name, const std::string& text) const {
    std::filesystem::remove(path(name));
    std::ofstream(path(name)) << text;
    std::filesystem::permissions(
        path(name), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    return path(name);
}

}  // namespace pulse::test
