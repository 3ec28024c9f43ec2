// Files of VGG Image Annotator 2.0.10: node with_via.js VIA.JS OUT, where VIA.JS is via-2.x.y/src/via.js of its repository.
// VIA's own functions write the files; no browser is needed.
const fs = require('fs'), vm = require('vm'), path = require('path');

const rect = (x, y, right, bottom) => ({ name: 'rect', x, y, width: right - x, height: bottom - y });
const polygon = (x, y, right, bottom) => ({ name: 'polygon', all_points_x: [x, right, right, x], all_points_y: [y, y, bottom, bottom] });
const boxes = {
  square: [['scratch', 5, 4, 15, 14]], small: [['dent', 20, 10, 23, 13]], circle: [['stain', 12, 7, 28, 23]],
  hole: [['crack', 5, 5, 25, 25]], two: [['scratch', 2, 2, 7, 7], ['dent', 30, 20, 34, 28]], empty: [],
};
const shapes = {
  boxes: (name, ...edges) => rect(...edges),
  polygons: (name, ...edges) => name === 'circle' ? { name: 'circle', cx: 20, cy: 15, r: 8 } : polygon(...edges),
  ellipses: (name, x, y, right, bottom) =>
    ({ name: 'ellipse', cx: (x + right) / 2, cy: (y + bottom) / 2, rx: (right - x) / 2, ry: (bottom - y) / 2, theta: 0 }),
};

async function main([source, out]) {
  const page = () => new Proxy(function () {}, { get: (_, key) => (key === Symbol.toPrimitive ? () => '' : page()), apply: page, set: () => true });
  const context = { window: page(), document: page(), console, localStorage: undefined, Blob: class { constructor(parts) { this.text = parts.join(''); } } };
  vm.createContext(context);
  vm.runInContext(fs.readFileSync(source, 'utf8'), context);
  for (const [kind, shape] of Object.entries(shapes)) {
    vm.runInContext("_via_img_metadata = {}; _via_image_id_list = []; _via_settings.project = { name: 'via_project' };", context);
    for (const [name, regions] of [...Object.entries(boxes), ['tagged', []]]) {
      const attributes = name === 'tagged' ? { quality: 'ok' } : {};
      const image = vm.runInContext(`new file_metadata(${JSON.stringify(name + '.png')}, 100)`, context);
      image.file_attributes = attributes;
      for (const [label, ...edges] of regions) {
        const region = vm.runInContext('new file_region()', context);
        region.shape_attributes = shape(name, ...edges);
        region.region_attributes = { defect: label };
        image.regions.push(region);
      }
      context.image = image;
      vm.runInContext('_via_img_metadata[image.filename + image.size] = image; _via_image_id_list.push(image.filename + image.size);', context);
    }
    const write = (type, file, data) => {
      fs.mkdirSync(path.join(out, type), { recursive: true });
      fs.writeFileSync(path.join(out, type, file), data);
    };
    for (const type of ['json', 'csv']) {
      const parts = await vm.runInContext(`pack_via_metadata('${type}')`, context);
      write(`via-${type}-${kind}`, `via_region_data.${type}`, parts.join(''));
    }
    context.save = (blob, name) => write(`via-project-${kind}`, name, blob.text);
    vm.runInContext('save_data_to_local_file = save; user_input_default_cancel_handler = () => {};', context);
    vm.runInContext("project_save_confirmed({ project_name: { value: 'via_project' } })", context);
  }
}

main(process.argv.slice(2));
