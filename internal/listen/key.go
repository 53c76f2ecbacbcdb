package listen

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

// This file decrypts private keys. The standard library reads those of the older form alone, which begins with a header "Proc-Type:
// 4,ENCRYPTED". OpenSSL 3 writes "BEGIN ENCRYPTED PRIVATE KEY" (PKCS #8 with PBES2, RFC 8018).

var errPassword = errors.New("the password does not decrypt the key")

// decrypted is a key in PEM without encryption. A key that is not encrypted is returned as it is.
func decrypted(key []byte, password string) ([]byte, error) {
	for rest := key; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return key, nil // X509KeyPair finds the key, or says that there is none
		}
		pkcs8 := block.Type == "ENCRYPTED PRIVATE KEY"
		if !pkcs8 && !x509.IsEncryptedPEMBlock(block) { //nolint:staticcheck // deprecated because the form is weak; keys of it are in use
			continue // the parameters of a curve stand before its key
		}
		if password == "" {
			return nil, errors.New("is encrypted, and there is no password for it")
		}
		if pkcs8 {
			der, err := decryptPKCS8(block.Bytes, password)
			return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
		}
		der, err := x509.DecryptPEMBlock(block, []byte(password)) //nolint:staticcheck // as above
		if err != nil {
			return nil, errPassword
		}
		return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}), nil
	}
}

// The structures of RFC 5958 and RFC 8018.
type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2 struct{ Derivation, Encryption pkix.AlgorithmIdentifier }
	pbkdf struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		Function   pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// The object identifiers of RFC 8018 and of AES.
var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}

	hashes = map[string]func() hash.Hash{
		"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New, "1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
	}
	keyLengths = map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32} // AES-CBC
)

// maxIterations bounds the time that a key's file can ask for.
const maxIterations = 10_000_000

func decryptPKCS8(der []byte, password string) ([]byte, error) {
	var outer encryptedKey
	var scheme pbes2
	var derivation pbkdf
	var iv []byte
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, fmt.Errorf("is no encrypted key: %w", err)
	}
	if !outer.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, fmt.Errorf("is encrypted by %s; only PBES2 is read (openssl pkcs8 -topk8 -v2 aes-256-cbc)", outer.Algorithm.Algorithm)
	}
	if _, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, fmt.Errorf("is no encrypted key: %w", err)
	}
	if !scheme.Derivation.Algorithm.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("has a key derivation %s; only PBKDF2 is read", scheme.Derivation.Algorithm)
	}
	if _, err := asn1.Unmarshal(scheme.Derivation.Parameters.FullBytes, &derivation); err != nil {
		return nil, fmt.Errorf("is no encrypted key: %w", err)
	}
	hashed, length := hashes[derivation.Function.Algorithm.String()], keyLengths[scheme.Encryption.Algorithm.String()]
	if hashed == nil || length == 0 {
		return nil, fmt.Errorf("is encrypted by %s with %s; only AES-CBC with HMAC of SHA is read", scheme.Encryption.Algorithm, derivation.Function.Algorithm)
	}
	if _, err := asn1.Unmarshal(scheme.Encryption.Parameters.FullBytes, &iv); err != nil || len(iv) != aes.BlockSize {
		return nil, errors.New("is no encrypted key: bad initialization vector")
	}
	if derivation.Iterations < 1 || derivation.Iterations > maxIterations || len(outer.Data) == 0 || len(outer.Data)%aes.BlockSize != 0 {
		return nil, errors.New("is no encrypted key: bad lengths")
	}
	secret, err := pbkdf2.Key(hashed, password, derivation.Salt, derivation.Iterations, length)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(outer.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, outer.Data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errPassword
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return nil, errPassword
		}
	}
	return plain[:len(plain)-pad], nil
}
