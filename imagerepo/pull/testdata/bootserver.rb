# The steps of Puavo's bootserver with the meta of a series: each image that DIR lacks, oldest
# first, is made by rdiff from one that it has, or else fetched, and compared with the meta.
#
#   ruby bootserver.rb META_URL DIR
#
# It prints what it did with each image.
require 'digest'
require 'json'
require 'net/http'
require 'uri'

def run(*command)
  system(*command, out: File::NULL) or abort "#{command.first} failed"
end

def right?(path, file)
  File.size(path) == file['size'] && Digest::SHA256.file(path).hexdigest == file['sha256']
end

def fetch(dir, file)
  run('aria2c', '--no-conf=true', '--enable-dht=false', '--allow-overwrite=true', '--quiet=true',
      "--checksum=sha-256=#{file['sha256']}", "--dir=#{dir}", "--out=#{file['filename']}", *file['urls'])
end

meta_url, dir = ARGV
response = Net::HTTP.get_response(URI(meta_url))
response.is_a?(Net::HTTPSuccess) or abort "#{meta_url}: #{response.code}"

JSON.parse(response.body).each_value do |series|
  images = series['images'].sort_by { |image| image['version'] }
  by_version = images.to_h { |image| [image['version'], image] }
  images.each do |image|
    path = File.join(dir, image['filename'])
    next if File.exist?(path)
    diff = image['diffs'].find do |d|
      base = by_version[d['version']]
      base && File.exist?(File.join(dir, base['filename']))
    end
    if diff
      fetch(dir, diff)
      base = File.join(dir, by_version[diff['version']]['filename'])
      run('rdiff', 'patch', base, File.join(dir, diff['filename']), "#{path}.tmp")
      File.rename("#{path}.tmp", path)
    else
      fetch(dir, image)
    end
    right?(path, image) or abort "#{image['filename']} is not what the meta says"
    puts "#{diff ? 'made' : 'fetched'} #{image['filename']}"
  end
end
