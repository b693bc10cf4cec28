# The tables that image/sbom has gathered, as an SPDX 2.3 document (https://spdx.github.io/spdx-spec/v2.3/).

def rows($text): $text | split("\n") | map(select(. != "") | split("\t"));
def id($kind; $name): "SPDXRef-" + $kind + "-" + ($name | gsub("[^A-Za-z0-9.-]"; "-"));
def package_id: id("Package"; gsub("\\+"; "-plus"));
def known: if . == null or . == "" then "NOASSERTION" else . end;

# Debian's short names of licences that are the same text as one of SPDX's.
def spdx_names: {
  "apache-2.0": "Apache-2.0", "artistic-2.0": "Artistic-2.0", "bsd-2-clause": "BSD-2-Clause",
  "bsd-3-clause": "BSD-3-Clause", "bsl-1.0": "BSL-1.0", "boost-1.0": "BSL-1.0", "cc0-1.0": "CC0-1.0", "curl": "curl",
  "expat": "MIT", "mit": "MIT", "isc": "ISC", "zlib": "Zlib", "mpl-2.0": "MPL-2.0",
  "gpl-1": "GPL-1.0-only", "gpl-1+": "GPL-1.0-or-later", "gpl-2": "GPL-2.0-only", "gpl-2+": "GPL-2.0-or-later",
  "gpl-3": "GPL-3.0-only", "gpl-3+": "GPL-3.0-or-later", "lgpl-2": "LGPL-2.0-only", "lgpl-2+": "LGPL-2.0-or-later",
  "lgpl-2.1": "LGPL-2.1-only", "lgpl-2.1+": "LGPL-2.1-or-later", "lgpl-3": "LGPL-3.0-only",
  "lgpl-3+": "LGPL-3.0-or-later"
};
def licence_ref: "LicenseRef-Debian-" + gsub("\\+"; "-plus") | gsub("[^A-Za-z0-9.-]+"; "-") | sub("-+$"; "");
def licence_name: ascii_downcase as $name | spdx_names[$name] // spdx_names[$name | sub("\\.0(?<plus>\\+?)$"; .plus)];
# One field of a copyright file: a name, or several with "or", or each of several with "and"; anything else stays one
# name of its own.
def licence:
  [splits(" +and +| +or +|, *"; "i")] as $names
  | test(" or "; "i") as $choice
  | if all($names[]; licence_name) | not then licence_ref
    elif $choice and test(" and |,"; "i") then licence_ref
    elif $choice then "(" + ($names | map(licence_name) | join(" OR ")) + ")"
    else $names[] | licence_name end;

rows($files) as $files
| (rows($codes) | map({(.[0]): .[1]}) | add) as $codes
| (rows($licences) | group_by(.[0]) | map({(.[0][0]): map(.[1])}) | add // {}) as $licences
| (rows($headers) | map(.[0])) as $headers
| (rows($compiler) | map(.[0])) as $compiler
| ($facts | capture("^kiln (?<version>[^ ]+) \\(commit (?<commit>[^,]+), (?<compiler>[^,]+),")) as $kiln

# A package of which the image has files says so with their code; of others only the name and version are told.
| def analysed($name): if $codes[$name]
    then {filesAnalyzed: true, packageVerificationCode: {packageVerificationCodeValue: $codes[$name]}}
    else {filesAnalyzed: false} end;

{
  spdxVersion: "SPDX-2.3",
  dataLicense: "CC0-1.0",
  SPDXID: "SPDXRef-DOCUMENT",
  name: "kiln-\($kiln.version)",
  documentNamespace: "https://spdx.org/spdxdocs/kiln-\($kiln.version)-\($contents)",
  creationInfo: {created: ($epoch | tonumber | todate), creators: ["Tool: image/sbom of Kiln \($kiln.version)"]},
  packages: ([
    {
      name: "kiln-image", SPDXID: "SPDXRef-Image", versionInfo: $kiln.version, primaryPackagePurpose: "CONTAINER",
      downloadLocation: "NOASSERTION", filesAnalyzed: false,
      licenseConcluded: "NOASSERTION", licenseDeclared: "NOASSERTION", copyrightText: "NOASSERTION"
    },
    {
      name: "kiln", SPDXID: ("kiln" | package_id), versionInfo: $kiln.version, primaryPackagePurpose: "APPLICATION",
      downloadLocation: "NOASSERTION", sourceInfo: "commit \($kiln.commit), compiled by \($kiln.compiler)",
      licenseConcluded: "NOASSERTION", licenseDeclared: "Apache-2.0", copyrightText: "NOASSERTION"
    } + analysed("kiln")
  ] + (rows($packages) | map(
    . as [$name, $version, $architecture, $maintainer, $home, $source, $source_version]
    | {
        name: $name, SPDXID: ($name | package_id), versionInfo: $version,
        supplier: "Organization: \($maintainer | gsub("<"; "(") | gsub(">"; ")"))",
        downloadLocation: "NOASSERTION", homepage: ($home | known),
        sourceInfo: "built by Debian from \($source) \($source_version)",
        licenseConcluded: "NOASSERTION",
        licenseDeclared: ($licences[$name] // [] | map(licence) | unique | join(" AND ") | known),
        licenseComments: ("What Debian's copyright file names for the files of the source package, " +
          "those of its tests and of its build included."),
        copyrightText: "NOASSERTION",
        externalRefs: [{
          referenceCategory: "PACKAGE-MANAGER", referenceType: "purl",
          referenceLocator: "pkg:deb/debian/\($name | @uri)@\($version | @uri)?arch=\($architecture)"
        }]
      } + analysed($name)))),
  files: ($files | map(. as [$path, $package, $sha1, $sha256] | {
    fileName: ".\($path)", SPDXID: id("File"; $sha256[:16] + ($path | gsub("/"; "-"))),
    checksums: [{algorithm: "SHA1", checksumValue: $sha1}, {algorithm: "SHA256", checksumValue: $sha256}],
    licenseConcluded: "NOASSERTION", licenseInfoInFiles: ["NOASSERTION"], copyrightText: "NOASSERTION"
  })),
  hasExtractedLicensingInfos: ([$licences | to_entries[] | .key as $package | .value[]
    | {name: ., ref: licence, package: $package} | select(.ref | startswith("LicenseRef-"))]
    | group_by(.ref) | map({
        licenseId: .[0].ref, name: .[0].name,
        extractedText: "See \"License: \(.[0].name)\" in the copyright file of Debian's package \(.[0].package)."
      })),
  relationships: ([["SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image"]]
    + ($codes | keys | map(["SPDXRef-Image", "CONTAINS", package_id]))
    + ($files | map(. as [$path, $package, $sha1, $sha256]
        | [($package | package_id), "CONTAINS", id("File"; $sha256[:16] + ($path | gsub("/"; "-")))]))
    + (rows($loads) + [["kiln", "ca-certificates"]] | map([(.[0] | package_id), "DEPENDS_ON", (.[1] | package_id)]))
    + ($headers | map([package_id, "BUILD_DEPENDENCY_OF", ("kiln" | package_id)]))
    + ($compiler | map([package_id, "BUILD_TOOL_OF", ("kiln" | package_id)]))
    | map({spdxElementId: .[0], relationshipType: .[1], relatedSpdxElement: .[2]}))
}
