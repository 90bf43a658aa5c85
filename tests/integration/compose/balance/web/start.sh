#!/bin/sh
mkdir -p /srv
hostname > /srv/index.html
exec httpd -f -p 5000 -h /srv
