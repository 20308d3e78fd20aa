// Refreshes the metadata of a repository with tuf-js, another implementation of The
// Update Framework, and prints the documents that are named:
//
//	node refresh.js BASE_URL DIRECTORY DOCUMENT...
//
// DIRECTORY has the root that is trusted, root.json, and keeps what is seen.
'use strict'

const fs = require('fs')
const os = require('os')
const path = require('path')
const { Updater } = require('tuf-js')

async function main([base, dir, ...documents]) {
  const updater = new Updater({
    metadataDir: dir,
    metadataBaseUrl: base,
    targetDir: fs.mkdtempSync(path.join(os.tmpdir(), 'targets-')),
    targetBaseUrl: base + '/targets',
    config: { fetchRetries: 0 },
  })
  await updater.refresh()
  for (const name of documents) {
    const info = await updater.getTargetInfo(name)
    if (!info) throw new Error(`${name} is not named`)
    process.stdout.write(fs.readFileSync(await updater.downloadTarget(info)))
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`${error.name}: ${error.message}`)
  process.exitCode = 1
})
