#!/usr/bin/env bash
# darktable keeps only the first part of an XMP keyword that contains a comma, and loses the rest without a warning.
#
# Date: 2026-11-28. Versions: darktable 4.2.1 (Debian 12), ImageMagick 6.9.11, sqlite3 3.40.
#
# What happens: `dc:subject` of a sidecar holds the keyword "salt, pepper". XMP's lists hold any text, and a comma does
# not separate entries. darktable's library has the tag "salt" after the import, and neither "pepper" nor "salt,
# pepper". The same keyword in `lr:hierarchicalSubject` is cut in the same way. A sidecar named as Lightroom does
# (photo.xmp instead of photo.jpg.xmp) goes through another reader in darktable, which keeps the keyword whole.
#
# Why it matters to people who tag photos: places ("Paris, France"), people ("Smith, Ann") and label sets such as
# COCO-Stuff or ImageNet are full of commas. darktable's next write of the sidecar makes the loss permanent.
#
# Output seen:
#   photo.jpg.xmp, dc:subject:              salt
#   photo.jpg.xmp, lr:hierarchicalSubject:  salt
#   photo.xmp, dc:subject:                  salt, pepper
#
# Exits with 1 if this is no longer so.
set -euo pipefail
for program in darktable-cli convert sqlite3; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install darktable imagemagick sqlite3"; exit 2; }
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export HOME=$folder
convert -size 64x48 xc:teal photo.jpg

# tags SIDECAR PROPERTY: what darktable's library says of the photo with one keyword in SIDECAR
tags() {
    rm -rf photo.xmp photo.jpg.xmp library out.jpg
    cat >"$1" <<XMP
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/">
   <$2>
    <rdf:Bag>
     <rdf:li>salt, pepper</rdf:li>
    </rdf:Bag>
   </$2>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
XMP
    darktable-cli photo.jpg out.jpg --width 16 --height 16 --core --configdir library --library library/library.db >log 2>&1
    sqlite3 library/library.db "ATTACH 'library/data.db' AS data; SELECT name FROM data.tags
        JOIN tagged_images ON tagid = tags.id WHERE name NOT LIKE 'darktable|%'" | paste -sd'+'
}

flat=$(tags photo.jpg.xmp dc:subject)
hierarchical=$(tags photo.jpg.xmp lr:hierarchicalSubject)
lightroom=$(tags photo.xmp dc:subject)
echo "photo.jpg.xmp, dc:subject:              $flat"
echo "photo.jpg.xmp, lr:hierarchicalSubject:  $hierarchical"
echo "photo.xmp, dc:subject:                  $lightroom"
[ "$flat/$hierarchical/$lightroom" = "salt/salt/salt, pepper" ]
