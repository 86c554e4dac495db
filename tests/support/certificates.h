// Certificates made by a test: keys of each kind, fresh in each process, and files that hold them.
#pragma once

#include <openssl/types.h>

#include <memory>
#include <string>
#include <vector>

namespace pulse::test {

struct CertificateSpec {
    std::vector<std::string> names{"a.example"};  // subjectAltName; the first is the common name
    bool rsa = false;                             // else P-256
    bool authority = false;
    long from_s = -3'600;  // from now
    long until_s = 86'400;
};

class TestCertificate {
  public:
    // Signed by `issuer`, or by itself.
    explicit TestCertificate(const CertificateSpec& spec = {},
                             const TestCertificate* issuer = nullptr);

    X509* certificate() const { return certificate_.get(); }
    EVP_PKEY* key() const { return key_.get(); }
    std::string certificate_pem() const;
    std::string key_pem(const std::string& passphrase = {}) const;

  private:
    std::shared_ptr<EVP_PKEY> key_;
    std::shared_ptr<X509> certificate_;
};

// A folder that goes with its owner, and what is in it.
class TestFolder {
  public:
    TestFolder();
    ~TestFolder();
    TestFolder(const TestFolder&) = delete;
    TestFolder& operator=(const TestFolder&) = delete;

    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    // Written, for this user alone; what was there goes. Returns its path.
    std::string write(const std::string& name, const std::string& text) const;

  private:
    std::string folder_;
};

}  // namespace pulse::test
