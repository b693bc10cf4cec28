# True when the document has what SPDX 2.3 asks of one (https://spdx.github.io/spdx-spec/v2.3/) and every file in it
# belongs to exactly one package; otherwise an error that says what is wrong.

def must(condition; what): if condition then . else error(what) end;
def text: type == "string" and . != "";
def relations($type): [.relationships[] | select(.relationshipType == $type)];

([.packages[], .files[] | .SPDXID] + ["SPDXRef-DOCUMENT"]) as $ids
| (.hasExtractedLicensingInfos | map(.licenseId)) as $refs
| must(.spdxVersion == "SPDX-2.3" and .dataLicense == "CC0-1.0" and .SPDXID == "SPDXRef-DOCUMENT"; "the head")
| must((.name | text) and (.documentNamespace | test("^https?://[^#]+$")); "name or namespace")
| must(.creationInfo | (.created | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$")) and (.creators | length > 0);
    "creationInfo")
| must($ids | length == (unique | length); "an identifier that is there twice")
| must(all($ids[]; test("^SPDXRef-[A-Za-z0-9.-]+$")); "a malformed identifier")
| must(all(.packages[]; (.name | text) and (.downloadLocation | text) and (.versionInfo | text)); "a package")
| must(all(.packages[]; .filesAnalyzed == (.packageVerificationCode != null)); "a package's verification code")
| must(all(.packages[].licenseDeclared | splits("[() ]+") | select(startswith("LicenseRef-")); IN($refs[]));
    "a licence without its text")
| must(any(.packages[]; .name == "libc6" and (.licenseDeclared | test("LGPL-2.1-or-later"))); "the licences of libc6")
| must(all(.hasExtractedLicensingInfos[]; .extractedText | text); "the text of a licence")
| must(all(.files[]; (.fileName | startswith("./")) and ([.checksums[].algorithm] | contains(["SHA1"]))); "a file")
| must(all(.relationships[]; IN(.spdxElementId; $ids[]) and IN(.relatedSpdxElement; $ids[])); "a relationship")
| must(relations("DESCRIBES") | length == 1; "what the document describes")
| must([relations("CONTAINS")[].relatedSpdxElement | select(startswith("SPDXRef-File"))] | sort
    == ([$ids[] | select(startswith("SPDXRef-File"))] | sort); "a file of no package, or of two")
| must(relations("DEPENDS_ON") | length > 10; "what depends on what")
| true
