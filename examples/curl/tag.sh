#!/bin/sh
# Tags photos through NVIDIA Triton's HTTP port with curl alone:
#   sh tag.sh http://HOST:8000 MODEL PHOTO…
# Prints Triton's JSON answer for each photo: its three best labels, as "score:index:label".
set -eu
[ $# -ge 3 ] || { echo "usage: sh tag.sh http://HOST:PORT MODEL PHOTO…" >&2; exit 2; }
url=$1 model=$2
shift 2

# Each element of a BYTES tensor follows its length, a little-endian uint32.
length_of() {
    size=$(wc -c <"$1")
    printf "$(printf '\\%03o\\%03o\\%03o\\%03o' \
        $((size % 256)) $((size / 256 % 256)) $((size / 65536 % 256)) $((size / 16777216)))"
}

for photo; do
    # The body is the request as JSON, then the photo itself; a header gives the length of the JSON.
    bytes=$(($(wc -c <"$photo") + 4))
    request="{\"inputs\": [{\"name\": \"IMAGE\", \"datatype\": \"BYTES\", \"shape\": [1, 1],
        \"parameters\": {\"binary_data_size\": $bytes}}],
        \"outputs\": [{\"name\": \"scores\", \"parameters\": {\"classification\": 3}}]}"
    { printf %s "$request"; length_of "$photo"; cat "$photo"; } |
        curl --silent --show-error --fail-with-body --max-time 30 --data-binary @- \
            --header "Content-Type: application/octet-stream" \
            --header "Inference-Header-Content-Length: ${#request}" "$url/v2/models/$model/infer"
    echo
done
