#!/usr/bin/env bash
# Label Studio refuses to give a JPEG to a client that says it accepts JPEG.
#
# Date: 2026-11-29. Version: label-studio 1.23.2, with its default SQLite.
#
# What happens: the address of an uploaded photo answers `Accept: */*` with status 200 and `Content-Type: image/jpeg`. With
# `Accept: image/jpeg` or `Accept: image/*` it answers 406 and JSON. Its web framework compares the header with what the
# view can render, which is JSON, before the view returns the file. A browser is not affected, because its header for
# pictures ends with `*/*`.
#
# Why it matters to people who tag photos: a tagger that fetches the photos of a project and asks for pictures, as RFC
# 9110 (section 12.5.1) suggests, gets none of them. Whoever tries the address in a browser or with curl sees the photo.
#
# Output seen:
#   Accept: */*         200 image/jpeg
#   Accept: image/jpeg  406 application/json
#   Accept: image/*     406 application/json
#
# Exits with 1 if this is no longer so. It needs two to three minutes, most of them for packages, and 1 GB of disk.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile label-studio==1.23.2 pillow
cd "$folder"

export COLLECT_ANALYTICS=false LATEST_VERSION_CHECK=false SENTRY_DSN='' FRONTEND_SENTRY_DSN=''
port=$(python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
token=0123456789abcdef0123456789abcdef01234567
venv/bin/label-studio start --no-browser --data-dir data --port "$port" --internal-host 127.0.0.1 \
    --username me@example.org --password some-password --user-token $token --enable-legacy-api-token >log 2>&1 &
server=$!
for _ in $(seq 170); do curl -s -o health "http://127.0.0.1:$port/health" && break; sleep 1; done

ask() { curl -sf -H "Authorization: Token $token" "http://127.0.0.1:$port$1" "${@:2}"; }

venv/bin/python -c "from PIL import Image; Image.new('RGB', (64, 48), 'teal').save('photo.jpg')"
config='<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="cat"/></Choices></View>'
project=$(ask /api/projects --form-string title=photos --form-string label_config="$config" |
    python3 -c "import json, sys; print(json.load(sys.stdin)['id'])")
ask "/api/projects/$project/import" -F "file=@photo.jpg;type=image/jpeg" -o imported
photo=$(ask "/api/tasks?project=$project" | python3 -c "import json, sys; print(json.load(sys.stdin)['tasks'][0]['data']['image'])")

found=
for accepted in '*/*' image/jpeg 'image/*'; do
    answer=$(curl -s -o /dev/null -w '%{http_code} %{content_type}' "http://127.0.0.1:$port$photo" \
        -H "Authorization: Token $token" -H "Accept: $accepted")
    printf 'Accept: %-11s %s\n' "$accepted" "$answer"
    found="$found$answer;"
done
[ "$found" = "200 image/jpeg;406 application/json;406 application/json;" ]
